"""What happens to a ZooKeeper session, for the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dockstack.events import WARNING, Event
from dockstack.registry import Locator
from dockstack.registry.events import OfASession, lasting


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """A session is up, over this server; `resumed` when it is the one from before."""

    server: str
    session: int
    timeout: float
    resumed: bool

    def __str__(self) -> str:
        how = "resumed" if self.resumed else "opened"
        return f"ZooKeeper {self.server}: session {self.session:#x} {how}, time-out {self.timeout:g} s"


@dataclass(frozen=True, slots=True)
class Suspended(Event):
    """The connection was lost; the session, and what is registered, may live on."""

    level: ClassVar[int] = WARNING
    reason: str

    def __str__(self) -> str:
        return f"ZooKeeper connection lost: {self.reason}; everything is kept, connecting again"


@dataclass(frozen=True, slots=True)
class Unreachable(Event):
    """No server of the list could be used, for `seconds` by now; said at growing distance until that changes."""

    level: ClassVar[int] = WARNING
    hosts: str
    reason: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"ZooKeeper {self.hosts} cannot be used: {self.reason}; trying on{lasting(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Expired(OfASession):
    """The server has ended the session: what it kept registered is gone and will be registered again."""

    level: ClassVar[int] = WARNING
    session: int
    locator: Locator

    def __str__(self) -> str:
        return f"ZooKeeper session {self.session:#x} has expired; everything is registered again in a new one"
