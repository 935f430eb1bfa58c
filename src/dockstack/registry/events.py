"""What happens to sessions with registries, of any kind."""

from __future__ import annotations

from dataclasses import dataclass
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
