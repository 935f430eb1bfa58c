"""The JSON Schema (2020-12) of the two files, for editors and for whoever writes the files by program. Pure.

It takes what the program takes: it is made of the same models, and of what stands before their types: a number in
quotes, one line where a list of lines is meant, a key without a value, a value that the environment fills in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from dockstack.settings.common import FILLED_IN, Model
from dockstack.settings.nerve import NerveSettings
from dockstack.settings.synapse import SynapseSettings

ROLES: Mapping[str, type[Model]] = {"nerve": NerveSettings, "synapse": SynapseSettings}

_WHOLE = r"^\s*[-+]?[0-9][0-9_]*(\.0*)?\s*$"
_NUMBER = r"^\s*[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?\s*$"


def schema(role: str) -> dict[str, Any]:
    """The schema of a role's file, as plain data."""
    made = ROLES[role].model_json_schema(by_alias=True, schema_generator=_Generator, mode="validation")
    title = f"The {role} file of DockStack"
    return {"$schema": _Generator.schema_dialect, **made, "title": title}


def text(role: str) -> str:
    """The schema as the text of a file."""
    return json.dumps(schema(role), indent=2, sort_keys=True) + "\n"


def _text(pattern: str | None = None) -> JsonSchemaValue:
    return {"type": "string", "pattern": f"{FILLED_IN}|{pattern}" if pattern else FILLED_IN}


class _Generator(GenerateJsonSchema):
    """Widens each type by the texts that are taken for it."""

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {"anyOf": [super().int_schema(schema), _text(_WHOLE)]}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), _text(_NUMBER)]}

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return {"anyOf": [super().bool_schema(schema), _text()]}

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return {"anyOf": [super().literal_schema(schema), _text()]}

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        # Not oneOf: where the environment fills the tag in, several may fit.
        made = super().tagged_union_schema(schema)
        return {"anyOf": made["oneOf"]} if "oneOf" in made else made

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        required = made.get("required", ())
        for name, one in made.get("properties", {}).items():
            if name not in required and one and {"type": "null"} not in one.get("anyOf", ()):
                made["properties"][name] = _nullable(one)  # a key without a value has its default
        return made


def _nullable(one: JsonSchemaValue) -> JsonSchemaValue:
    about = ("title", "description", "default")
    told: JsonSchemaValue = {key: value for key, value in one.items() if key in about}
    rest = {key: value for key, value in one.items() if key not in about}
    kinds = rest["anyOf"] if set(rest) == {"anyOf"} else [rest]
    return told | {"anyOf": [*kinds, {"type": "null"}]}
