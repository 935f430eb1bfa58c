"""What happens to the connection with etcd, for the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dockstack.events import WARNING, Event
from dockstack.registry.events import lasting


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """A member answers."""

    member: str

    def __str__(self) -> str:
        return f"etcd {self.member} answers"


@dataclass(frozen=True, slots=True)
class Unreachable(Event):
    """No member could be used, for so many `seconds` by now; said at growing distance until that changes."""

    level: ClassVar[int] = WARNING
    members: str
    reason: str
    seconds: float = 0.0

    def __str__(self) -> str:
        kept = "everything is kept, trying on"
        return f"etcd {self.members} cannot be used: {self.reason}; {kept}{lasting(self.seconds)}"


@dataclass(frozen=True, slots=True)
class LeaseLost(Event):
    """The lease has ended: what it kept registered is gone and will be registered again."""

    level: ClassVar[int] = WARNING
    lease: int

    def __str__(self) -> str:
        return f"etcd lease {self.lease:016x} has ended; everything is registered again on a new one"
