"""What happens in synapse, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dockstack.events import DEBUG, ERROR, WARNING, Event, after
from dockstack.registry import Locator

TOLD = 3
"""How many steps of one change the log describes."""


@dataclass(frozen=True, slots=True)
class WatcherChosen(Event):
    """One of several watchers of a service is used from now on; `instances` is how many it has, `resolver` the method
    that has chosen it."""

    service: str
    watcher: str
    instances: int
    resolver: str

    def __str__(self) -> str:
        return f"service {self.service}: served from the watcher {self.watcher} ({self.instances} instances)"


@dataclass(frozen=True, slots=True)
class WeightsDrawn(Event):
    """A watcher was drawn by the weights in a file in S3, for all services that name the file."""

    url: str
    watcher: str

    def __str__(self) -> str:
        return f"{self.url}: the watcher {self.watcher} was drawn"


@dataclass(frozen=True, slots=True)
class WeightsKept(Event):
    """A file of weights was asked for and nothing was drawn: `fault` is why in one word, "" where it is as before."""

    level: ClassVar[int] = DEBUG
    url: str
    fault: str

    def __str__(self) -> str:
        return f"{self.url}: nothing was drawn ({self.fault or 'the weights are as before'})"


@dataclass(frozen=True, slots=True)
class WatcherUnknown(Event):
    """A watcher was drawn that a service does not have; it keeps the one that it uses."""

    level: ClassVar[int] = DEBUG
    service: str
    watcher: str

    def __str__(self) -> str:
        return f"service {self.service}: it has no watcher {self.watcher}"


@dataclass(frozen=True, slots=True)
class Applied(Event):
    """Runtime API steps were carried out, without a reload; `steps` are sentences about the first `TOLD` of `count`."""

    services: tuple[str, ...]
    steps: tuple[str, ...]
    count: int
    seconds: float

    def __str__(self) -> str:
        count = len(self.services)
        which = ", ".join(self.services) if count <= 3 else f"{count} services"
        more = f" and {self.count - len(self.steps)} more steps" if self.count > len(self.steps) else ""
        return f"{which}: {', '.join(self.steps)}{more}, in {self.seconds * 1000:.1f} ms"


@dataclass(frozen=True, slots=True)
class Reloaded(Event):
    """HAProxy has a new worker that we asked for."""

    reasons: tuple[str, ...]
    seconds: float
    pid: int | None

    def __str__(self) -> str:
        worker = "" if self.pid is None else f" (worker {self.pid})"
        return f"HAProxy reloaded in {self.seconds * 1000:.0f} ms{worker}: {first(self.reasons)}"


@dataclass(frozen=True, slots=True)
class CandidateRefused(Event):
    """The wanted configuration cannot be loaded; what runs (if `serving`) goes on, its servers are kept up to date."""

    level: ClassVar[int] = ERROR
    by: str
    lines: tuple[str, ...]
    serving: bool

    def __str__(self) -> str:
        now = "the old one goes on serving" if self.serving else "HAProxy does not run yet, and it is tried again"
        return "\n  ".join((f"{self.by} refuses the new configuration; {now}:", *self.lines))


@dataclass(frozen=True, slots=True)
class ServerRefused(Event):
    """One server is left out, as HAProxy does not take its line; the rest is served."""

    level: ClassVar[int] = WARNING
    service: str
    server: str
    line: str

    def __str__(self) -> str:
        return f"service {self.service}: server {self.server} is left out, HAProxy does not take it: {self.line}"


@dataclass(frozen=True, slots=True)
class ServiceRefused(Event):
    """HAProxy does not take one service's own lines; the others are served as they are wanted."""

    level: ClassVar[int] = ERROR
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Repaired(Event):
    """HAProxy was not as it was believed to be; it is put right."""

    level: ClassVar[int] = WARNING
    what: tuple[str, ...]

    def __str__(self) -> str:
        return f"HAProxy is put right, {len(self.what)} differences: {first(self.what)}"


@dataclass(frozen=True, slots=True)
class HaproxyEnded(Event):
    """Our HAProxy ended without being told to."""

    level: ClassVar[int] = ERROR
    how: str
    pause: float

    def __str__(self) -> str:
        return f"HAProxy {self.how}; it is started again {after(self.pause)}"


# What only the metrics count: the log tells the same when something changes.


@dataclass(frozen=True, slots=True)
class Discovered(Event):
    """A watcher has read a path of a registry. `seconds`: how long that took, where it was begun by us; `size`: bytes
    of its instances' names; `faults`: nodes that were skipped; `spent`, `missing`: as in a snapshot."""

    level: ClassVar[int] = DEBUG
    locator: Locator
    path: str
    seconds: float | None
    size: int
    faults: int
    polled: bool = False
    spent: tuple[tuple[str, float], ...] = ()
    missing: bool = False
    service: str = ""

    def __str__(self) -> str:
        took = "" if self.seconds is None else f" in {self.seconds * 1000:.1f} ms"
        return f"service {self.service}: {self.locator}, path {self.path} is read{took}"


@dataclass(frozen=True, slots=True)
class ConfigurationUnusable(Event):
    """The registry has new data for a service's configuration, and nothing in them can be used."""

    level: ClassVar[int] = DEBUG
    service: str

    def __str__(self) -> str:
        return f"service {self.service}: the configuration in the registry is left"


@dataclass(frozen=True, slots=True)
class Unresolved(Event):
    """A look at the records of a type that a name has failed, or was told that there is no such name."""

    level: ClassVar[int] = DEBUG
    name: str
    kind: str
    reason: str
    service: str = ""

    def __str__(self) -> str:
        return f"service {self.service}: the {self.kind} records of {self.name} cannot be looked up: {self.reason}"


@dataclass(frozen=True, slots=True)
class Pinged(Event):
    """The services whose watchers have answered, and those of which one has not; it counts as so many looks."""

    level: ClassVar[int] = DEBUG
    answered: tuple[str, ...]
    silent: tuple[str, ...]
    looks: int

    def __str__(self) -> str:
        return f"services that have answered: {len(self.answered)}, that have not: {len(self.silent)}"


@dataclass(frozen=True, slots=True)
class WatcherStarted(Event):
    """A service is followed from now on; `several`: by more than one watcher."""

    level: ClassVar[int] = DEBUG
    service: str
    several: bool

    def __str__(self) -> str:
        return f"service {self.service} is followed"


@dataclass(frozen=True, slots=True)
class WatcherStopped(Event):
    """A service, or a form of it that another replaces, is no longer followed."""

    level: ClassVar[int] = DEBUG
    service: str
    several: bool

    def __str__(self) -> str:
        return f"service {self.service} is no longer followed"


@dataclass(frozen=True, slots=True)
class AllAnswered(Event):
    """Every watcher has answered, `seconds` after the start."""

    seconds: float
    services: int

    def __str__(self) -> str:
        return f"every watcher has answered; services: {self.services}"


@dataclass(frozen=True, slots=True)
class ConfigurationChanged(Event):
    """The outputs have another picture to carry out."""

    level: ClassVar[int] = DEBUG

    def __str__(self) -> str:
        return "there is something new to carry out"


def first(texts: tuple[str, ...], most: int = 3) -> str:
    """The first few of some texts, and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more
