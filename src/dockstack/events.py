"""What happened, as data. The log, the metrics and the status page subscribe; nobody who emits knows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
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
        return f"{self.what} failed: {self.error}; trying again {after(self.pause)}"


@dataclass(frozen=True, slots=True)
class Recovered(Event):
    """What was tried again and again has succeeded; it had failed for so many `seconds`."""

    what: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.what} works again, after {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The daemon is at work."""

    level: ClassVar[int] = DEBUG

    def __str__(self) -> str:
        return "started"


@dataclass(frozen=True, slots=True)
class Reconfigured(Event):
    """Other settings were taken over."""

    def __str__(self) -> str:
        return "the configuration was reloaded"


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The daemon is at its end, `seconds` after its start; `error` is the bug that ended it, if it was one."""

    level: ClassVar[int] = DEBUG
    seconds: float
    error: BaseException | None = None

    def __str__(self) -> str:
        return f"ended after {self.seconds:.0f} s" + (f" by {self.error!r}" if self.error else "")


def after(pause: float) -> str:
    """When something is done that is done after a pause, in seconds."""
    return f"in {pause:.1f} s" if pause >= 0.05 else "at once"


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
        if event.level <= DEBUG:
            emit(event)
            return
        error = event.error if isinstance(event, Retrying) else None
        if error is None or error != said:
            emit(event)
        said = error

    return say
