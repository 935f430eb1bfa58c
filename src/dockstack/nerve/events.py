"""What happens to the services that nerve looks after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dockstack.events import DEBUG, ERROR, WARNING, Event


@dataclass(frozen=True, slots=True)
class Up(Event):
    """The service counts as healthy now."""

    service: str

    def __str__(self) -> str:
        return f"{self.service} is up"


@dataclass(frozen=True, slots=True)
class Down(Event):
    """The service counts as unhealthy now."""

    level: ClassVar[int] = WARNING
    service: str
    check: str
    reason: str

    def __str__(self) -> str:
        return f"{self.service} is down: {self.check}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Broken(Event):
    """A check raised what no check may raise."""

    level: ClassVar[int] = ERROR
    service: str
    check: str
    traceback: str

    def __str__(self) -> str:
        return (
            f"the check {self.check} of {self.service} has a bug and counts as failed (this is said once):\n"
            f"{self.traceback.rstrip()}"
        )


@dataclass(frozen=True, slots=True)
class Throttled(Event):
    """A report is held back by the service's `rate_limiting`, or would be (`shadow`)."""

    level: ClassVar[int] = WARNING
    service: str
    shadow: bool

    def __str__(self) -> str:
        if self.shadow:
            return f"{self.service} changes more often than its rate_limiting allows; shadow_mode: it is reported"
        return f"{self.service} changes more often than its rate_limiting allows: its report is held back"


@dataclass(frozen=True, slots=True)
class StillThrottled(Throttled):
    """The same report was tried again, and is held back again."""

    level: ClassVar[int] = DEBUG


@dataclass(frozen=True, slots=True)
class Registered(Event):
    """The service is in the registry."""

    service: str
    node: str

    def __str__(self) -> str:
        return f"{self.service} is registered as {self.node}"


@dataclass(frozen=True, slots=True)
class Withdrawn(Event):
    """The service is no longer in the registry, because nerve took it out."""

    service: str
    node: str

    def __str__(self) -> str:
        return f"{self.service} is withdrawn: {self.node} is deleted"


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """The registration is gone, and nerve did not do it."""

    level: ClassVar[int] = WARNING
    service: str
    node: str

    def __str__(self) -> str:
        return (
            f"{self.service} is no longer registered: {self.node} was deleted by somebody else or went with its "
            "session; it is written again"
        )


@dataclass(frozen=True, slots=True)
class Abandoned(Event):
    """Nerve stops, and could not withdraw the service."""

    level: ClassVar[int] = WARNING
    service: str
    path: str
    seconds: float
    ephemeral: bool

    def __str__(self) -> str:
        end = "it ends with nerve's session" if self.ephemeral else "delete its node by hand"
        return f"{self.service} could not be withdrawn from {self.path} within {self.seconds:g} s; {end}"
