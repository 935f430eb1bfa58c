"""Plain data that remembers where each of its values stands in what the user wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dockstack.errors import ConfigurationError, Problem

Steps = tuple[str | int, ...]
"""The way to a value in nested maps and lists: `("services", "mysql", "checks", 0)`."""


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data (maps with text keys, lists, text, numbers, booleans, None), where each value stands, and doubts."""

    data: dict[str, Any]
    places: Mapping[Steps, str]
    warnings: tuple[Problem, ...] = ()

    def where(self, steps: Steps) -> str:
        """`FILE:LINE: services.mysql.checks[0].fall`: the place of the value, or of the nearest one around it."""
        return ": ".join(filter(None, (self.place(steps), spelled(steps))))

    def place(self, steps: Steps) -> str:
        """`FILE:LINE` alone; empty where nobody wrote it."""
        return next((self.places[steps[:n]] for n in range(len(steps), -1, -1) if steps[:n] in self.places), "")

    def located(self, problem: Problem) -> Problem:
        """A problem that names a value (`services.a.checks[0]: …`), with the place of that value before it."""
        known = {spelled(steps): place for steps, place in self.places.items()}
        name = problem.where
        while name and name not in known:
            name = name[: max(name.rfind("."), name.rfind("["), 0)]
        return Problem(": ".join(filter(None, (known.get(name, ""), problem.where))), problem.what)

    def with_part(self, steps: Steps, part: Document) -> Document:
        """This document with the whole of another standing at `steps` (maps on the way are made); nothing is merged."""
        places = {s: place for s, place in self.places.items() if s[: len(steps)] != steps}
        places.update({(*steps, *s): place for s, place in part.places.items()})
        return Document(_set(self.data, steps, part.data), places, (*self.warnings, *part.warnings))

    def with_data(self, data: dict[str, Any]) -> Document:
        """The same places and doubts for changed data."""
        return replace(self, data=data)


def spelled(steps: Steps) -> str:
    """The steps as users write them: `services.mysql.checks[0].fall`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")


def _set(data: dict[str, Any], steps: Steps, value: Any) -> dict[str, Any]:
    first, *rest = steps
    inner = data.get(str(first))
    return {**data, str(first): _set(inner if isinstance(inner, dict) else {}, tuple(rest), value) if rest else value}


def fault(where: str, what: str) -> ConfigurationError:
    """The error of one problem."""
    return ConfigurationError(Problem(where, what))
