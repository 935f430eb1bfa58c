"""What happened, as data. The log, the metrics and the status page subscribe; nobody who emits knows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

INFO, WARNING, ERROR = 20, 30, 40
"""How much an event matters, as the logging package counts."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; its text is a full sentence for an operator."""

    level: ClassVar[int] = INFO

    def __str__(self) -> str:  # pragma: no cover - each event says its own sentence
        raise NotImplementedError


Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Note(Event):
    """A plain sentence about one thing that went as it should."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Warn(Event):
    """A plain sentence about one thing that an operator should look at; the program goes on."""

    level: ClassVar[int] = WARNING
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Retrying(Event):
    """An expected failure that is tried again after `pause` seconds."""

    level: ClassVar[int] = WARNING
    what: str
    error: str
    pause: float

    def __str__(self) -> str:
        return f"{self.what} failed: {self.error}; trying again in {self.pause:.2f} s"


def fan_out(*subscribers: Emit) -> Emit:
    """One emitter that tells all subscribers, in order."""

    def emit(event: Event) -> None:
        for subscriber in subscribers:
            subscriber(event)

    return emit


def said_once(emit: Emit) -> Emit:
    """Says a failure once, not at each of the tries that fail alike; 1,000 services may fail at the same time."""
    said: str | None = None

    def say(event: Event) -> None:
        nonlocal said
        error = event.error if isinstance(event, Retrying) else None
        if error is None or error != said:
            emit(event)
        said = error

    return say
