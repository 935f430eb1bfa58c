"""What happens to the services that nerve looks after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dockstack.events import DEBUG, ERROR, WARNING, Event
from dockstack.registry import Locator


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


# What only the metrics count: the log tells the same when something changes.


@dataclass(frozen=True, slots=True)
class Checked(Event):
    """A round of checks is over: each one's name and whether it passed. `registry`: it can be reached, and the
    last report arrived."""

    level: ClassVar[int] = DEBUG
    service: str
    results: tuple[tuple[str, bool], ...]
    registry: bool

    def __str__(self) -> str:
        found = ", ".join(f"{name} {'passed' if passed else 'failed'}" for name, passed in self.results)
        return f"{self.service} is checked: {found or 'nothing to check'}"


@dataclass(frozen=True, slots=True)
class Reporting(Event):
    """A report was tried: the registry has it (`done`), or could not be asked."""

    level: ClassVar[int] = DEBUG
    service: str
    done: bool

    def __str__(self) -> str:
        return f"{self.service} is {'' if self.done else 'not '}reported"


@dataclass(frozen=True, slots=True)
class Written(Event):
    """A registration was written or deleted; `encoded`: bytes of the instance in the name of a new node."""

    level: ClassVar[int] = DEBUG
    locator: Locator
    path: str
    how: Literal["create", "save", "delete"]
    seconds: float
    encoded: int | None = None

    def __str__(self) -> str:
        return f"{self.locator}, path {self.path}: {self.how} took {self.seconds * 1000:.1f} ms"


@dataclass(frozen=True, slots=True)
class Renewed(Event):
    """A persistent node was written again, unchanged, or could not be."""

    level: ClassVar[int] = DEBUG
    locator: Locator
    path: str
    done: bool

    def __str__(self) -> str:
        return f"{self.locator}, path {self.path}: {'' if self.done else 'not '}renewed"


@dataclass(frozen=True, slots=True)
class Launched(Event):
    """A service is looked after from now on, in this form."""

    level: ClassVar[int] = DEBUG
    service: str
    reason: Literal["new", "update"]

    def __str__(self) -> str:
        return f"{self.service} is looked after ({self.reason})"


@dataclass(frozen=True, slots=True)
class Reaped(Event):
    """A service, or a form of it that another has replaced, is no longer looked after."""

    level: ClassVar[int] = DEBUG
    service: str
    reason: Literal["old", "update"]

    def __str__(self) -> str:
        return f"{self.service} is no longer looked after ({self.reason})"


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """Nerve stops, and looks after the service no longer."""

    level: ClassVar[int] = DEBUG
    service: str

    def __str__(self) -> str:
        return f"{self.service} is no longer looked after: nerve stops"
