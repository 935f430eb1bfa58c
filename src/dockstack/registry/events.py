"""What happens to sessions with registries, of any kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from dockstack.events import DEBUG, Event
from dockstack.registry import Locator


@dataclass(frozen=True, slots=True)
class SessionUsed(Event):
    """A `user` (a service; "" where it is not told) follows a registry: over a session of its own, which is `fresh`, or
    over one that is there."""

    level: ClassVar[int] = DEBUG
    locator: Locator
    fresh: bool
    user: str = ""

    def __str__(self) -> str:
        return f"{self.locator}: {'a new session' if self.fresh else 'the session is used again'}"


@dataclass(frozen=True, slots=True)
class OfASession(Event):
    """What happens to one session. `user` is the service that was the first to ask for it, "" where it is not told."""

    user: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class NodeUnread(Event):
    """The data of a node could not be read, of a child of the path or of the path itself; the read is made again."""

    level: ClassVar[int] = DEBUG
    path: str
    child: bool

    def __str__(self) -> str:
        return f"{self.path}: the data of {'a child' if self.child else 'the node itself'} could not be read"


def lasting(seconds: float) -> str:
    """For how long something has been going on, where that is worth a word."""
    return f", for {seconds:.0f} s by now" if seconds >= 5 else ""
