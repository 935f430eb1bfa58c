"""One service's place in one registry: who watches it, who will, and who keeps it registered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

from dockstack.events import Emit, Warn
from dockstack.nerve.events import Checked, Down, Reaped, StillThrottled, Throttled, Up
from dockstack.nerve.limit import Bucket, filled, take
from dockstack.nerve.names import Names
from dockstack.nerve.report import Reported, keep, place
from dockstack.nerve.service import Round, Service, Start, watch
from dockstack.nerve.timed import Timed
from dockstack.registry import Announcer, Locator, Registration
from dockstack.runtime.latest import Latest
from dockstack.settings.nerve import RateLimiting


class Registries(Protocol):
    """The one session with each registry, shared by all services that are announced in it, as long as there are any."""

    async def borrow(self, locator: Locator) -> Announcer:
        """The session; `give_back` follows in any case."""

    def give_back(self, locator: Locator) -> None:
        """It is not used by the caller any more."""


_OVERDUE = 3  # check intervals without a finished round


class Post:
    """A changed service gets a second watcher; with its first verdict it takes over, and the keeper moves the node.

    A service that moves to another registry gets a post there, with the old post as `elsewhere`: that one goes on until
    the new registry has the service, or knows that it is down.
    """

    __slots__ = (
        "_announcer", "_bucket", "_checked", "_elsewhere", "_emit", "_form", "_group", "_keeper", "_limits",
        "_names", "_newest_form", "_registries", "_reports", "_round", "_successor", "_throttled", "_watchers",
        "_wished", "_wishes", "service",
    )  # fmt: skip

    def __init__(
        self,
        group: asyncio.TaskGroup,
        registries: Registries,
        emit: Emit,
        names: Names,
        service: Service,
        *,
        elsewhere: Post | None,
    ) -> None:
        self.service = service
        self._group = group
        self._registries = registries
        self._emit = emit
        self._names = names
        self._elsewhere = elsewhere
        self._round: Round | None = None  # the last one with a verdict
        self._checked = asyncio.get_running_loop().time()
        self._form = self._newest_form = 0  # which form of the service has the say, and which was started last
        self._watchers: dict[int, asyncio.Task[None]] = {}
        self._wishes: Latest[Registration | None] = Latest()
        self._wished = self._throttled = False
        self._limits: RateLimiting | None = None
        self._bucket: Bucket | None = None
        self._reports: Latest[Reported] = Latest()
        self._announcer: Announcer | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._successor: asyncio.Task[None] | None = None

    def start(self, first: Start, after: asyncio.Task[None] | None) -> None:
        """Watches from `first` on; registers once the task `after`, which withdraws the same service, is done."""
        self._keeper = self._group.create_task(self._keep(after), name=f"keep {self.service.name}")
        if self._elsewhere is not None:
            self._successor = self._group.create_task(self._succeed(), name=f"move {self.service.name}")
        self._watch(self.service, first)

    def replace(self, service: Service, first: Start) -> None:
        """Watches this form of the service as well; it has the say from its first verdict on."""
        self.service = service
        self._watch(service, first)

    def end(self, spared: Post | None = None) -> asyncio.Task[None] | None:
        """Stops checking and withdraws, here and elsewhere but at the spared post; returns the task that withdraws."""
        for task in (*self._watchers.values(), self._successor, self._keeper):
            if task is not None:
                task.cancel()
        self._watchers.clear()
        if self._elsewhere is not None and self._elsewhere is not spared:
            self._elsewhere.end(spared)
        return self._keeper

    def chain(self) -> Iterator[Post]:
        """This post, and those that go on elsewhere until this one has reported."""
        yield self
        if self._elsewhere is not None:
            yield from self._elsewhere.chain()

    @property
    def missing(self) -> str | None:
        """What the service lacks before it is ready: its first verdict, or the first try to report it."""
        if self._round is None:
            return "no verdict yet" if self.service.absence is None else self.service.absence.reason
        return None if self._reports.peek() else f"not yet reported to {self.service.locator}"

    def overdue(self, now: float) -> float | None:
        """Seconds since the last round of checks (None: not long), with the loop's time `now`."""
        probes = self.service.probes
        if not probes or self.service.absence is not None or self.service.settings.check_mocked:
            return None
        patience = _OVERDUE * self.service.settings.check_interval + sum(probe.deadline for probe in probes) + 1
        return now - self._checked if now - self._checked > patience else None

    def __str__(self) -> str:
        if self._round is None:
            return "not known yet" if self.service.absence is None else f"not known yet, {self.service.absence.reason}"
        reported = self._reports.peek() or Reported(None)
        state = "up" if self._round.up else "down"
        registered = f"registered as {place(reported.lease)}" if reported.lease else "not registered"
        failure = self._round.failure
        reasons = [f"{failure.check}: {failure.reason}"] if failure and not self._round.up else []
        if not self._round.up and failure is None:
            reasons.append("its checks pass again, but not yet as often in a row as `rise` says")
        reasons += ["its report is held back by rate_limiting"] if self._throttled else []
        reasons += [reported.error] if reported.error else []
        return ", ".join((state, registered, *reasons))

    def _watch(self, service: Service, first: Start) -> None:
        for form in [form for form in self._watchers if form != self._form]:
            self._watchers.pop(form).cancel()
        self._newest_form += 1
        form = self._newest_form
        self._watchers[form] = self._group.create_task(
            watch(service, first, lambda now: self._told(form, service, now), self._emit, self._names),
            name=f"watch {service.name}",
        )

    def _told(self, form: int, service: Service, now: Round) -> bool:
        if form not in self._watchers:
            return False
        self._checked = asyncio.get_running_loop().time()
        results = tuple((outcome.check, outcome.healthy) for outcome in now.outcomes)
        self._emit(Checked(service.name, results, self._reaches_registry()))
        if now.up is None:
            return True
        for old in [old for old in self._watchers if old < form]:
            self._watchers.pop(old).cancel()
            self._emit(Reaped(service.name, "update"))
        self._form = form
        before, self._round = self._round, now
        if before is None or before.up != now.up:
            failure = now.failure
            self._emit(
                Down(service.name, failure.check, failure.reason) if failure and not now.up else Up(service.name)
            )
        elif now.absence is not None and now.absence.fault and now.absence != before.absence:
            self._emit(Warn(f"{service.name} stays down: {now.absence.what}: {now.absence.reason}"))
        wish = service.registration if now.up else None
        if not self._wished or wish != self._wishes.peek():
            if self._held_back(service, wish):
                return True
            self._wished = True
            self._wishes.put(wish)
        self._throttled = False
        return True

    def _reaches_registry(self) -> bool:
        """At the start, until the first report was tried, nobody has failed to reach it."""
        reported = self._reports.peek()
        if reported is None or self._announcer is None:
            return True
        return reported.error is None and self._announcer.reachable

    def _held_back(self, service: Service, wish: Registration | None) -> bool:
        """Whether the report must wait for a token; that nothing is registered at the start needs none."""
        limits = service.settings.rate_limiting
        if wish is None and not self._wished:
            return False
        now = asyncio.get_running_loop().time()
        if limits != self._limits:
            self._limits, self._bucket = limits, filled(limits, now)
        if self._bucket is None:
            return False
        self._bucket, granted = take(self._bucket, now)
        if granted:
            return False
        self._emit((StillThrottled if self._throttled else Throttled)(service.name, limits.shadow_mode))
        self._throttled = not limits.shadow_mode
        return self._throttled

    async def _keep(self, after: asyncio.Task[None] | None) -> None:
        locator = self.service.locator
        try:
            self._announcer = Timed(await self._registries.borrow(locator), locator, self._emit)
            if after is not None:
                await asyncio.wait({after})
            await keep(self.service.name, self._wishes, self._announcer, reports=self._reports, emit=self._emit)
        finally:
            self._registries.give_back(locator)

    async def _succeed(self) -> None:
        async for reported in self._reports:
            if reported.error is None:
                break
        if self._elsewhere is not None:
            self._elsewhere.end()
            self._elsewhere = None
