"""A service's output settings that stand in the registry, in the data of the path that is watched. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dockstack.registry.codec import compact
from dockstack.settings.common import Model
from dockstack.settings.synapse import SynapseService

OUTPUTS = frozenset({"haproxy", "file_output"})


@dataclass(frozen=True, slots=True)
class Overlaid:
    """The service with the registry's settings in the place of its own, and a sentence for each thing not taken."""

    service: SynapseService
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What the data says: the sections of the outputs that are configured here, and a sentence for each other thing."""

    sections: Mapping[str, Mapping[str, Any]]
    problems: tuple[str, ...] = ()


def read(name: str, data: bytes, outputs: Set[str] = OUTPUTS) -> Said:
    """The sections in a service's data. Data without any changes nothing: the last that had one stays in force."""
    if not data.strip():
        return Said({})
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        return Said({}, (f"service {name}: the configuration in the registry is no JSON: {error}",))
    try:
        compact(fields)
    except ValueError as error:  # half of a surrogate pair, which no file could hold
        return Said({}, (f"service {name}: the configuration in the registry cannot be used: {error}",))
    if not isinstance(fields, dict):
        return Said({}, (f"service {name}: the configuration in the registry is no map of outputs",))
    problems: list[str] = []
    found: dict[str, Mapping[str, Any]] = {}
    for output, section in fields.items():
        where = _where(name, output)
        if output not in OUTPUTS | outputs:
            problems.append(f"{where} is no output of this program; it is ignored")
        elif output not in outputs:
            problems.append(f"{where} is an output that is not configured here; it is ignored")
        elif not isinstance(section, dict):
            problems.append(f"{where} is no map; it is ignored")
        else:
            found[output] = section
    return Said(found, tuple(problems))


def overlay(name: str, own: SynapseService, data: bytes, outputs: Set[str] = OUTPUTS) -> Overlaid:
    """The service as the data wants it: an output that is named there replaces the service's section.

    `outputs` are those that are configured here; others are ignored, by name.
    The section of an output of somebody else's is taken as it is.
    What the data leaves out gets the defaults. Empty data says nothing (whoever keeps the last good data passes that).
    A section or key that is not understood is named and left, and the rest applies.
    """
    said = read(name, data, outputs)
    problems = list(said.problems)
    found: dict[str, Model] = {}
    others: dict[str, Any] = {}
    for output, section in said.sections.items():
        where = _where(name, output)
        if output not in OUTPUTS:
            others[output] = section
            continue
        found[output] = _section(where, type(getattr(own, output)), section, problems)
        if section.get("use_nerve_weights"):
            problems.append(f"{where}: use_nerve_weights has an effect in the top haproxy section only")
    changed = own.model_copy(update=found).with_sections(others) if said.sections else own
    return Overlaid(changed, tuple(problems))


def _where(name: str, output: str) -> str:
    return f"service {name}: {output!r} in the registry's configuration"


def _section(where: str, kind: type[Model], fields: Mapping[str, Any], problems: list[str]) -> Model:
    """The section, without the keys that are not understood."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        bad = {str(one["loc"][0]): one["msg"] for one in error.errors() if one["loc"]}
    problems += [f"{where}: {key}: {message}; it is ignored" for key, message in bad.items()]
    return kind.model_validate({key: value for key, value in fields.items() if key not in bad})
