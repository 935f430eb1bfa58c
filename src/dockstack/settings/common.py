"""Field types that both files use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from dockstack.documents import EnvironmentText
from dockstack.documents.scalars import psych

OFFERED = "offered"
"""In the context of a validation: a function of a group and a name, whether a plug-in of that name is installed."""

BUILT_IN = "one of DockStack's own"
"""The tag of what is not a plug-in's, in the places that pydantic names."""
STATS_SECTION = "listen dockstack-stats"
"""The extra section of synapse's file that `--stats` adds."""


class Model(BaseModel):
    """A part of a settings file: frozen, and a key that it does not know is a problem."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """A key without a value means its default, as in the old tools, where null has no meaning of its own."""
        if not isinstance(data, dict) or None not in data.values():
            return data
        defaults = {field.alias or name for name, field in cls.model_fields.items() if _has_no_null(field)}
        return {key: value for key, value in data.items() if value is not None or key not in defaults}


def _has_no_null(field: FieldInfo) -> bool:
    return not field.is_required() and type(None) not in get_args(field.annotation)


FILLED_IN = r"\$\{|<%"
"""The pattern of a text that the environment fills in, which may become any scalar."""


@dataclass(frozen=True, slots=True)
class AloneToo:
    """For the JSON Schema: one item may stand without the list around it."""

    def __get_pydantic_json_schema__(self, inner: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(inner)
        if "minLength" in made:  # behind a validator pydantic takes the list for a text
            made["minItems"] = made.pop("minLength")
        return {"anyOf": [made, made["items"]]}


@dataclass(frozen=True, slots=True)
class NumberToo:
    """For the JSON Schema: a whole number may stand for its digits."""

    def __get_pydantic_json_schema__(self, inner: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(inner), {"type": "integer"}]}


@dataclass(frozen=True, slots=True)
class FlagToo:
    """For the JSON Schema: true or false may stand for a map."""

    def __get_pydantic_json_schema__(self, inner: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(inner), {"type": "boolean"}]}


_PORT_SCHEMA: JsonSchemaValue = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": rf"^0*[1-9][0-9]{{0,4}}$|{FILLED_IN}"},
    ]
}


def _one_line_is_a_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _each_is_one_line(lines: tuple[str, ...]) -> tuple[str, ...]:
    stripped = tuple(line.strip("\r\n") for line in lines)
    for number, line in enumerate(stripped, 1):
        if "\n" in line or "\r" in line:
            raise ValueError(
                f"line {number} of them has a line break in it: write a list, each line an item of its own"
            )
    return stripped


def _one_line(value: str) -> str:
    if "\n" in value or "\r" in value:
        raise ValueError("has a line break in it; it is one line")
    return value


_PORT_DIGITS = 5


def _port(value: Any) -> Any:
    if isinstance(value, EnvironmentText) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a port, a whole number between 1 and 65535")
    text = str(value)
    if not (text.isascii() and text.isdecimal() and len(text) <= _PORT_DIGITS) or not 1 <= int(text) <= 65535:
        shown = text if len(text) <= 20 else f"{text[:20]}…"
        raise ValueError(f"port {shown} is not between 1 and 65535")
    return value


def _flag(value: Any) -> Any:
    value = psych(value) if isinstance(value, EnvironmentText) else value
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotes")
    return value


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value


def _number_is_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_UNFIT_IN_NAME = re.compile(r"[\s/'\"\\#]")


def _one_word(value: str) -> str:
    if bad := _UNFIT_IN_NAME.search(value):
        raise ValueError(f"has {bad[0]!r} in it, which can be neither in a node's name nor in a line of HAProxy's")
    return value


_UNFIT_IN_PATH = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")


def _without_brackets(value: str) -> str:
    return value[1:-1] if value.startswith("[") and value.endswith("]") and ":" in value else value


def _fit_for_zookeeper(value: str) -> str:
    """As ZooKeeper's own PathUtils has it."""
    if relative := {".", ".."}.intersection(value.split("/")):
        raise ValueError(f"has the part {min(relative)} in it, which ZooKeeper refuses: write the path from the root")
    if bad := _UNFIT_IN_PATH.search(value):
        raise ValueError(f"has {bad[0]!r} in it, which ZooKeeper refuses")
    return value


def _fit_for_files(value: str) -> str:
    for part in value.split("/"):
        if part.startswith("."):
            raise ValueError(f"has the part {part} in it, which begins with a dot: name it otherwise")
    return value


Lines = Annotated[tuple[str, ...], BeforeValidator(_one_line_is_a_list), AfterValidator(_each_is_one_line), AloneToo()]
"""Configuration lines; a text where a list is meant is one line."""

Hosts = Annotated[tuple[str, ...], BeforeValidator(_one_line_is_a_list), AloneToo()]
"""HOST:PORT of a registry's servers; one alone needs no list."""

Line = Annotated[str, AfterValidator(_one_line)]
"""Text that becomes part of one line of a file."""

Text = Annotated[str, BeforeValidator(_number_is_text), NumberToo()]
"""Text that people write without quotes also when it is made of digits."""

Word = Annotated[str, BeforeValidator(_number_is_text), AfterValidator(_one_word), NumberToo()]
"""Text that becomes a node's name and a word of a line: without spaces, slashes and quotes."""

Port = Annotated[int | str, BeforeValidator(_port), WithJsonSchema(_PORT_SCHEMA)]
"""A TCP port that keeps its type: a quoted port is registered as text."""

Host = Annotated[str, AfterValidator(_without_brackets)]
"""A host's name or address; an IPv6 address may stand in brackets."""

ZookeeperPath = Annotated[str, AfterValidator(_fit_for_zookeeper)]
"""A path in ZooKeeper; slashes are folded elsewhere."""

FilePath = Annotated[str, AfterValidator(_fit_for_files)]
"""A path in a registry that is a directory; slashes are folded elsewhere."""

Flag = Annotated[bool, BeforeValidator(_flag)]
"""True or false. A quoted one is refused: Ruby takes the text `false` as true."""

Whole = Annotated[int, BeforeValidator(_no_flag)]
"""A whole number."""

Number = Annotated[float, BeforeValidator(_no_flag)]
"""A finite number."""

Seconds = Annotated[float, BeforeValidator(_no_flag), Field(ge=0)]


Copies = Annotated[int, BeforeValidator(_no_flag), Field(ge=1)]
"""How often a service is run, to see what so many cost."""


class TlsSettings(Model):
    """TLS towards a registry or a service; PEM files."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: Flag = True


def _plain_tls(value: Any) -> Any:
    if isinstance(value, EnvironmentText):
        value = psych(value)
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


Tls = Annotated[TlsSettings | None, BeforeValidator(_plain_tls), FlagToo()]
"""TLS towards a service: a map, or `true` for what its defaults say."""


class StatsdSettings(Model):
    """Where counters go, by UDP."""

    host: str = "localhost"
    port: Port = 8125
    sample_rate: dict[str, Annotated[Number, Field(ge=0, le=1)]] = {}
