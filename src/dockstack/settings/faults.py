"""What pydantic found wrong, as sentences with the place in the user's file. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from dockstack.documents import Document, EnvironmentText, Steps
from dockstack.errors import Problem
from dockstack.settings.common import BUILT_IN

UNKNOWN = "extra_forbidden"


def problems(error: ValidationError, model: type[BaseModel], document: Document) -> tuple[Problem, ...]:
    """One problem for each fault, in the file's order as far as lines tell; alternatives of one type are one fault."""
    found: dict[Steps, str] = {}
    for fault in error.errors(include_url=False):
        steps = place(fault["loc"], document.data, missing=fault["type"] == "missing")
        found.setdefault(steps, _sentence(fault, steps, model, document.data))
    return tuple(Problem(document.where(steps), what) for steps, what in found.items())


def unknown_keys(error: ValidationError, data: dict[str, Any]) -> tuple[Steps, ...]:
    """The places of the keys that the schema does not have."""
    return tuple(place(fault["loc"], data) for fault in error.errors() if fault["type"] == UNKNOWN)


def without(data: dict[str, Any], places: Iterable[Steps]) -> dict[str, Any]:
    """The data without the values at these places; the given data are not changed."""
    kept = data
    for steps in places:
        kept = _dropped(kept, steps)
    return kept


def quoted_numbers(settings: BaseModel, data: Any) -> tuple[Steps, ...]:
    """The places of numbers that the user wrote as text; values from the environment are text anyway.

    A port is meant to keep its type and is not named.
    """
    return tuple(_quoted(settings, data, ()))


def place(loc: tuple[int | str, ...], data: Any, missing: bool = False) -> Steps:
    """The way to the value in the user's data, or to the key that is `missing` there: pydantic's location without the
    names of alternatives."""
    steps: list[int | str] = []
    here = data
    loc = tuple(step for step in loc if step != BUILT_IN)
    for step in loc:
        if (isinstance(here, dict) and step in here) or (
            isinstance(here, list) and isinstance(step, int) and step < len(here)
        ):
            here = here[step]  # type: ignore[index]
        elif missing and isinstance(here, dict) and step == loc[-1]:
            here = None
        else:
            continue
        steps.append(step)
    return tuple(steps)


def _dropped(value: Any, steps: Steps) -> Any:
    first, *rest = steps
    if isinstance(value, list) and isinstance(first, int):
        return [_dropped(item, tuple(rest)) if index == first else item for index, item in enumerate(value)]
    if rest:
        return {**value, first: _dropped(value[first], tuple(rest))}
    return {key: item for key, item in value.items() if key != first}


_MEANT = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list",
    "dict_type": "must be a map",
    "model_type": "must be a map",
    "model_attributes_type": "must be a map",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
}
_SECRET = frozenset({"password", "auth", "zk_auth", "headers", "aws_secret_access_key"})


def _sentence(fault: Mapping[str, Any], steps: Steps, model: type[BaseModel], data: Any) -> str:
    context, given, kind = fault.get("ctx", {}), fault["input"], fault["type"]
    match kind:
        case "missing":
            said = "is missing"
        case "extra_forbidden":
            said = _unknown(str(steps[-1]), tuple(_models_at(model, steps[:-1], data)))
        case "union_tag_not_found":
            key = _bare(context["discriminator"])
            said = f"has no {key}, which says what it is"
        case "union_tag_invalid":
            key = _bare(context["discriminator"])
            said = _unknown_kind(key, str(context["tag"]), _list(context["expected_tags"]))
        case "literal_error":
            known = _list(str(context["expected"]).replace(" or ", ", "))
            said = f"{_shown(given)} is none of {', '.join(known)}{_near(str(given), known)}"
        case "value_error":
            said = str(context["error"])
        case _ if kind in _MEANT:
            said = _MEANT[kind].format(**context) + _instead(given, kind, steps)
        case _:
            said = str(fault["msg"])
    return said


def _instead(given: Any, kind: str, steps: Steps) -> str:
    if kind.endswith("too_short") or _SECRET & set(steps):
        return ""
    if kind == "string_type" and isinstance(given, bool | int | float):
        return f"; YAML reads it as {_shown(given)}, so write it in quotes"
    return f", not {_shown(given)}"


def _shown(given: Any) -> str:
    """The value as JSON would have it, unless it is large."""
    if isinstance(given, dict | list):
        return "a map" if isinstance(given, dict) else "a list"
    text = json.dumps(given, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _bare(text: object) -> str:
    bare = str(text).replace("'", "")
    return "type" if bare.endswith("()") else bare  # a function tells a check's type, where any entry point may be


def _list(text: object) -> tuple[str, ...]:
    return tuple(word for word in str(text).replace("'", "").split(", ") if word != "plugin")


_LENIENT = "remove it, or allow it with --unknown-keys warn"


def _unknown_kind(key: str, tag: str, known: tuple[str, ...]) -> str:
    named = ", ".join(known)
    return f"unknown {key} {_shown(tag)}{_near(tag, known) or f'; known: {named}'}"


def _unknown(key: str, models: tuple[type[BaseModel], ...]) -> str:
    known = tuple(field.alias or name for model in models for name, field in model.model_fields.items())
    if key in known:
        return f"cannot stand beside the other keys here; {_LENIENT}"
    output = ", and there is no output of this name" if any(hasattr(model, "sections") for model in models) else ""
    return f"unknown key{output}{_near(key, known) or f'; {_LENIENT}'}"


def _near(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _models_at(model: type[BaseModel], steps: Steps, data: Any) -> Iterator[type[BaseModel]]:
    """The parts of the schema that the map at these steps may be; where a kind is named, that kind alone."""
    at = [model]
    here = data
    for step in steps:
        here = here[step]
        at = [inner for outer in at for inner in _inner(outer, step)]
    named = [each for each in at if isinstance(here, dict) and _is_named(each, here)]
    yield from dict.fromkeys(named or at)


def _is_named(model: type[BaseModel], data: dict[str, Any]) -> bool:
    kinds = ((key, model.model_fields[key].annotation) for key in ("type", "method") if key in model.model_fields)
    return any(get_origin(kind) is Literal and data.get(key) in get_args(kind) for key, kind in kinds)


def _inner(model: type[BaseModel], step: int | str) -> Iterator[type[BaseModel]]:
    for name, field in model.model_fields.items():
        if step in (name, field.alias):
            yield from _models(field.annotation)
            return
    # A step into a map or a list of models, whose type `_models` has already looked through.
    yield model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _models(part)


def _quoted(value: Any, data: Any, steps: Steps) -> Iterator[Steps]:
    if isinstance(value, BaseModel) and isinstance(data, dict):
        for name, field in type(value).model_fields.items():
            key = field.alias or name
            if key in data:
                yield from _quoted(getattr(value, name), data[key], (*steps, key))
    elif isinstance(value, dict) and isinstance(data, dict):
        for key, inner in value.items():
            yield from _quoted(inner, data.get(key), (*steps, key))
    elif isinstance(value, tuple) and isinstance(data, list):
        for index, (inner, given) in enumerate(zip(value, data, strict=False)):
            yield from _quoted(inner, given, (*steps, index))
    elif (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and isinstance(data, str)
        and not isinstance(data, EnvironmentText)
    ):
        yield steps
