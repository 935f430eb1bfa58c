"""One socket of HAProxy's Runtime API and the worker behind it: brought to what is wanted, and looked after."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dockstack.errors import HaproxyUnavailable
from dockstack.events import Emit, Warn
from dockstack.runtime.pace import pauses
from dockstack.synapse.events import TOLD, Applied, Repaired
from dockstack.synapse.haproxy.collect import Leaving, Name
from dockstack.synapse.haproxy.commands import told
from dockstack.synapse.haproxy.document import static_names
from dockstack.synapse.haproxy.link import Believe, Link, Refused, await_link, serving_pid
from dockstack.synapse.haproxy.model import Add, Admin, Delete, Document, Drain, Maintain, Reason, Running, Step
from dockstack.synapse.haproxy.plan import plan
from dockstack.synapse.haproxy.runtime import Identity

AUDIT = 30.0
"""Seconds between two read-backs of everything (jittered to 80-120 %)."""

BUSY_AGAIN = 0.2
"""Seconds between two tries to replace a server that still has connections."""

BUSY_LIMIT = 2.0
"""Seconds of such tries; then the change needs a reload."""

MOST_LEFT = 1000
"""Servers of the past that one backend keeps where they cannot be deleted (2.6); a reload ends them."""

_NEVER = float("inf")
_ANSWER = 2.0


class Seat:
    """The socket at `path`. `removal`: seconds that a server which left may keep its connections; 0: cut at once."""

    def __init__(self, path: Path, removal: float, emit: Emit) -> None:
        self.path = path
        self.link: Link | None = None
        self.whole = True
        self.pending: set[str] = set()
        self.repaired = 0
        self._removal = removal
        self._cut = not removal
        self._emit = emit
        self._leaving = Leaving(removal)
        self._stuck: set[Name] = set()
        self._busy: dict[str, float] = {}
        self._busy_at = _NEVER
        self._connect_at = 0.0
        self._last: tuple[Identity, Running] | None = None
        self._pauses: Iterator[float] = pauses(1.0, random.random)
        self._audit_at = _NEVER

    @property
    def current(self) -> bool:
        """Whether the worker has what was wanted when it was last driven, as far as commands can bring it there."""
        return self.link is not None and not self.link.closed and not (self.whole or self.pending or self._busy)

    def next_due(self) -> float:
        """When there is something to do here, on the loop's clock."""
        if self.link is None:
            return self._connect_at
        look = self._leaving.next_look()
        return min(self._audit_at, self._busy_at, _NEVER if look is None else look)

    def take(self, link: Link) -> None:
        """This is the worker from now on; nothing of what was known of another one counts."""
        self.drop()
        self._last = None
        self.link = link
        self.whole = True
        self._leaving = Leaving(self._removal)
        self._stuck.clear()
        self._busy.clear()
        self._busy_at = _NEVER
        self._pauses = pauses(1.0, random.random)
        self._next_audit()

    def drop(self) -> None:
        """The worker is gone, or cannot be trusted: connect anew, at once."""
        if self.link is not None:
            self._last = (self.link.identity, self.link.running)
            self.link.close()
            self.link = None
        self._connect_at = 0.0

    async def connect(self, believe: Believe, static: Mapping[str, frozenset[str]], limit: float) -> bool:
        """Tries for `limit` seconds to reach the worker if that is due; true when there is a new link.

        A failure is no error here: the next try is due later.
        """
        if self.link is not None and self.link.closed:
            self.drop()
        loop = asyncio.get_running_loop()
        if self.link is not None or loop.time() < self._connect_at:
            return False
        last = self._last

        def remember(identity: Identity) -> Running:
            """The same worker as before, over a new connection, is known better than the file on disk tells."""
            return last[1] if last is not None and last[0] == identity else believe(identity)

        try:
            self.take(await await_link(self.path, remember, static, limit))
        except HaproxyUnavailable:
            self._connect_at = loop.time() + next(self._pauses)
            return False
        return True

    async def drive(self, wanted: Document, steps_allowed: bool) -> Mapping[str, list[Reason]]:
        """Brings the worker to what is wanted of the pending services, or of all; returns what only a reload can do.

        That is by service looked at; reasons of no service are under "". Raises HaproxyUnavailable: the worker is let
        go then, and with the next one everything is looked at again.
        """
        link, whole = self.link, self.whole
        if link is None or not (whole or self.pending):
            return {}
        services = tuple(dict.fromkeys((*wanted.stanzas, *self.pending))) if whole else tuple(self.pending)
        looked: dict[str, list[Reason]] = {service: [] for service in ("", *services)}
        since = {service: self._busy.pop(service) for service in services if service in self._busy}
        loop = asyncio.get_running_loop()
        started = loop.time()
        plot = plan(link.running, wanted, None if whole else services, frozenset(self._stuck), self._cut)
        for reason in plot.reload_reasons:
            looked.setdefault(reason.service or "", []).append(reason)
        if plot.steps and not steps_allowed:
            looked[""].append(Reason(None, f"servers of {plot.steps[0].backend} change, and do_socket is off"))
        elif plot.steps:
            steps, refused = await _carry_out(link, plot.steps)
            self._tell(wanted, steps, refused, loop.time() - started)
            if refused:
                await self._again(link, wanted, refused, looked, since)
        self._leaving.note(link.running, wanted, services, loop.time())
        for service in services:
            left = _left_over(link.running, wanted, service)
            if left > MOST_LEFT:
                looked[service].append(Reason(service, f"{left} servers that are gone still take memory in HAProxy"))
        self.pending.difference_update(services)
        self.whole = False
        return looked

    def _tell(self, wanted: Document, steps: Sequence[Step], refused: Sequence[Refused], seconds: float) -> None:
        void = {id(one.step) for one in refused}
        done = [step for step in steps if id(step) not in void]
        if done:
            said = tuple(told(step) for step in done[:TOLD])
            self._emit(Applied(_services(wanted, done), said, len(done), seconds))

    async def _again(
        self,
        link: Link,
        wanted: Document,
        refused: tuple[Refused, ...],
        looked: dict[str, list[Reason]],
        since: Mapping[str, float],
    ) -> None:
        """After an unexpected reply: is this still the worker? Read back, plan once more; then it is a reload's.

        `since` tells which services are tried again, and since when.

        A retired worker refuses a command of every step (2.6 and 2.8: `Proxy is disabled.`), so a change finds out.
        """
        await self._same_worker(link)
        await link.reread({one.step.backend for one in refused}, static_names(link.running.loaded, wanted))
        services = _services(wanted, [one.step for one in refused])
        plot = plan(link.running, wanted, services, frozenset(self._stuck), self._cut)
        for service in services:
            looked[service] = []
        for reason in plot.reload_reasons:
            looked.setdefault(reason.service or "", []).append(reason)
        _, refused = await _carry_out(link, plot.steps)
        if adds := frozenset((one.step.backend, one.step.name) for one in refused if isinstance(one.step, Add)):
            without = plan(link.running, wanted, services, frozenset(self._stuck), self._cut, refused=adds)
            _, more = await _carry_out(link, without.steps)
            refused = (*refused, *more)
        for service in services:
            mine = [one for one in refused if _service(wanted, one.step.backend) == service]
            deletes = [one.step for one in mine if isinstance(one.step, Delete)]
            if deletes:
                self._postpone(service, {(one.backend, one.name) for one in deletes}, since.get(service))
            else:
                looked[service] += [Reason(service, str(one)) for one in mine]
        if refused:
            await link.reread({one.step.backend for one in refused}, static_names(link.running.loaded, wanted))

    def _postpone(self, service: str, names: set[Name], since: float | None) -> None:
        """A server to be replaced still has connections: again soon, and with a reload if that lasts."""
        now = asyncio.get_running_loop().time()
        since = self._busy[service] = now if since is None else since
        if now - since > BUSY_LIMIT:
            self._stuck |= names
        self._busy_at = min(self._busy_at, now + BUSY_AGAIN)

    def retry_busy(self) -> None:
        """Puts services whose servers could not be replaced up for another try, if that is due."""
        if asyncio.get_running_loop().time() >= self._busy_at:
            self.pending.update(self._busy)
            self._busy_at = _NEVER

    async def look_after(self, wanted: Document) -> bool:
        """Does what is due behind the changes; true when everything is to be looked at again.

        Whether another worker serves, whether all servers are as they should be, and what has left. Raises
        HaproxyUnavailable.
        """
        loop = asyncio.get_running_loop()
        link = self.link
        if link is None:
            return False
        now = loop.time()
        if now >= self._audit_at:
            self._next_audit()
            await self._same_worker(link)
            found = await link.audit(static_names(link.running.loaded, wanted))
            if found:
                self.repaired += len(found)
                self._emit(Repaired(found))
                self.whole = True
        look = self._leaving.next_look()
        if look is not None and look <= now:
            await self._collect(link, now)
        return self.whole

    async def _same_worker(self, link: Link) -> None:
        """Raises HaproxyUnavailable, and lets go of the worker, when another one serves on the socket."""
        pid = await serving_pid(self.path, _ANSWER)
        if pid == link.identity.pid:
            return
        self.repaired += 1
        self.drop()
        if pid is None:
            raise HaproxyUnavailable(f"no HAProxy takes connections on {self.path} any more")
        raise HaproxyUnavailable(f"another worker serves on {self.path}: HAProxy was reloaded by somebody else")

    async def _collect(self, link: Link, now: float) -> None:
        ripe = self._leaving.ripe(link.running, now)
        backends = list(dict.fromkeys(name[0] for name, admin in ripe if admin is Admin.DRAIN))
        sessions = await link.sessions(backends) if backends else {}
        steps = self._leaving.steps(ripe, sessions, link.running, now)
        if not steps:
            return
        refused = await link.carry_out(steps)
        for one in refused:
            if not isinstance(one.step, Delete):
                self._emit(Warn(str(one)))
                self._audit_at = now

    def _next_audit(self) -> None:
        self._audit_at = asyncio.get_running_loop().time() + AUDIT * random.uniform(0.8, 1.2)

    def audit_soon(self) -> None:
        """The read-back of everything is due now."""
        self._audit_at = 0.0


async def _carry_out(link: Link, steps: Sequence[Step]) -> tuple[Sequence[Step], tuple[Refused, ...]]:
    """Sends the steps; returns those that were sent, and of these the refused ones.

    Where servers are to leave a backend that others join these are sent first: whoever left on the strength of one that
    HAProxy refuses would leave nobody. The rest of such a backend's steps is not sent then.
    """
    at: dict[str, int] = {}
    adds = {step.backend for step in steps if isinstance(step, Add)}
    for index, step in enumerate(steps):
        if step.backend in adds and isinstance(step, Drain | Maintain):
            at.setdefault(step.backend, index)
    first = [step for index, step in enumerate(steps) if index < at.get(step.backend, len(steps))]
    refused = await link.carry_out(first) if first else ()
    if not at:
        return first, refused
    bad = {one.step.backend for one in refused if isinstance(one.step, Add)}
    rest = [step for index, step in enumerate(steps) if index >= at.get(step.backend, len(steps))]
    rest = [step for step in rest if step.backend not in bad]
    more = await link.carry_out(rest) if rest else ()
    return (*first, *rest), (*refused, *more)


def _left_over(running: Running, wanted: Document, service: str) -> int:
    stanza = wanted.stanzas.get(service)
    if running.capabilities.can_delete or stanza is None or stanza.backend.name not in running.backends:
        return 0
    return len(running.backends[stanza.backend.name].servers) - len(stanza.backend.servers)


def _service(wanted: Document, backend: str) -> str | None:
    direct = wanted.stanzas.get(backend)
    if direct is not None and direct.backend.name == backend:
        return backend
    return next((one.service for one in wanted.stanzas.values() if one.backend.name == backend), None)


def _services(wanted: Document, steps: Iterable[object]) -> tuple[str, ...]:
    backends = dict.fromkeys(str(getattr(step, "backend", "")) for step in steps)
    return tuple(service for backend in backends if (service := _service(wanted, backend)) is not None)
