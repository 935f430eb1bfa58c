"""What pydantic found wrong, as sentences with the place in the user's file. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from dockstack.documents import Document, EnvironmentText, Steps, spelled
from dockstack.errors import Problem

UNKNOWN = "extra_forbidden"


def problems(error: ValidationError, model: type[BaseModel], document: Document) -> tuple[Problem, ...]:
    """One problem for each fault, in the file's order as far as lines tell; alternatives of one type are one fault."""
    found: dict[Steps, str] = {}
    for fault in error.errors(include_url=False):
        steps = place(fault["loc"], document.data)
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
    """The places of numbers and truth values that the user wrote as text; values from the environment are text anyway.

    A port is meant to keep its type and is not named.
    """
    return tuple(_quoted(settings, data, ()))


def place(loc: tuple[int | str, ...], data: Any) -> Steps:
    """The way to the value in the user's data: pydantic's location without the names of alternatives."""
    steps: list[int | str] = []
    here = data
    for step in loc:
        if (isinstance(here, dict) and step in here) or (
            isinstance(here, list) and isinstance(step, int) and step < len(here)
        ):
            here = here[step]  # type: ignore[index]
        elif isinstance(here, dict) and step == loc[-1]:
            here = None  # a key that is missing
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


def _sentence(fault: Mapping[str, Any], steps: Steps, model: type[BaseModel], data: Any) -> str:
    context, given = fault.get("ctx", {}), fault["input"]
    match fault["type"]:
        case "missing":
            said = "is missing"
        case "extra_forbidden":
            said = _unknown(str(steps[-1]), tuple(_keys(model, steps[:-1], data)))
        case "union_tag_not_found":
            said = f"has no {_bare(context['discriminator'])}"
        case "union_tag_invalid":
            known = _list(context["expected_tags"])
            tag = str(context["tag"])
            named = ", ".join(known)
            said = f"unknown {_bare(context['discriminator'])} {tag!r}; known: {named}{_near(tag, known)}"
        case "literal_error":
            known = _list(str(context["expected"]).replace(" or ", ", "))
            said = f"{given!r} is none of {', '.join(known)}{_near(str(given), known)}"
        case "value_error":
            said = str(context["error"])
        case _:
            message = str(fault["msg"]).replace("Input should be", "must be")
            message = message.replace("a valid tuple", "a list").replace("a valid dictionary", "a map")
            said = message[:1].lower() + message[1:] + ("" if isinstance(given, dict | list) else f", not {given!r}")
    return said


def _bare(text: object) -> str:
    bare = str(text).replace("'", "")
    return "type" if bare.endswith("()") else bare  # a function tells a check's type, where any entry point may be


def _list(text: object) -> tuple[str, ...]:
    return tuple(word for word in str(text).replace("'", "").split(", ") if word != "plugin")


def _unknown(key: str, known: tuple[str, ...]) -> str:
    return f"unknown key{_near(key, known) or '; remove it, or allow it with --unknown-keys warn'}"


def _near(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _keys(model: type[BaseModel], steps: Steps, data: Any) -> Iterator[str]:
    """The keys that the schema has for the map at these steps."""
    at = [model]
    here = data
    for step in steps:
        here = here[step]
        at = [inner for outer in at for inner in _inner(outer, step)]
    for found in at:
        for name, field in found.model_fields.items():
            yield field.alias or name


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
    elif isinstance(value, int | float) and isinstance(data, str) and not isinstance(data, EnvironmentText):
        yield steps


__all__ = ["UNKNOWN", "place", "problems", "quoted_numbers", "spelled", "unknown_keys", "without"]
