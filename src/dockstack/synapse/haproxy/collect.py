"""Servers that have left: their connections end in peace, up to a limit, when they are cut; then maintenance and, where
sound, deletion.

Never in the way of a change: each look is a command or two on a beat of its own, seldomer the longer a server lingers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dockstack.synapse.haproxy.model import (
    Admin,
    Cut,
    Delete,
    Document,
    Maintain,
    Running,
    RunningBackend,
    RunningServer,
    Step,
)
from dockstack.synapse.haproxy.server import is_disabled

FIRST = 1.0
"""Seconds between a departure and the first look."""

SELDOMEST = 30.0
"""Seconds between two looks at a server that does not go."""

AT_ONCE = 100
"""Servers that one look takes up."""

Name = tuple[str, str]
"""Backend and server."""


@dataclass(slots=True)
class _Gone:
    since: float
    at: float
    pause: float


class Leaving:
    """The servers of one process that nobody wants any more, and when to look at each again. No I/O."""

    def __init__(self, limit: float) -> None:
        """`limit`: seconds that open connections are given."""
        self._limit = limit
        self._gone: dict[Name, _Gone] = {}

    def __len__(self) -> int:
        return len(self._gone)

    def note(self, running: Running, wanted: Document, services: Iterable[str], now: float) -> None:
        """Takes up the servers of these services that have left, and forgets those that are back or away."""
        for service in services:
            stanza = wanted.stanzas.get(service)
            if stanza is None:
                continue
            backend = stanza.backend
            stay = {one.name for one in backend.servers if not is_disabled(one)} | backend.static
            listed = {one.name for one in backend.servers}
            servers = running.backends.get(backend.name, RunningBackend()).servers
            for name, server in servers.items():
                key = (backend.name, name)
                if name in stay or not self._has_work(running, server, name in listed):
                    self._gone.pop(key, None)
                elif key not in self._gone:
                    self._gone[key] = _Gone(now, now + FIRST, FIRST)

    @staticmethod
    def _has_work(running: Running, server: RunningServer, listed: bool) -> bool:
        """Whether something is left to be done: to end the draining, or to delete what the file does not list."""
        if server.admin is Admin.MAINT:
            return running.capabilities.can_delete and not listed
        return server.admin is Admin.DRAIN

    def next_look(self) -> float | None:
        """When there is something to do, on the clock that `now` is read from; None: nothing."""
        return min((one.at for one in self._gone.values()), default=None)

    def ripe(self, running: Running, now: float) -> tuple[tuple[Name, Admin], ...]:
        """The servers to look at now, with their state; each is looked at again later, and later each time."""
        found: list[tuple[Name, Admin]] = []
        for key, gone in list(self._gone.items()):
            if gone.at > now or len(found) == AT_ONCE:
                continue
            server = running.backends.get(key[0], RunningBackend()).servers.get(key[1])
            if server is None or server.admin is Admin.READY:
                del self._gone[key]
                continue
            gone.pause = min(gone.pause * 2, SELDOMEST)
            gone.at = now + gone.pause
            found.append((key, server.admin))
        return tuple(found)

    def steps(
        self, ripe: Iterable[tuple[Name, Admin]], sessions: Mapping[Name, int], running: Running, now: float
    ) -> tuple[Step, ...]:
        """What to do with these servers; `sessions` are the open ones of those that drain."""
        found: list[Step] = []
        for key, admin in ripe:
            over = now - self._gone[key].since >= self._limit
            if admin is Admin.DRAIN:
                if not over and sessions.get(key, 1):
                    continue
                found.append(Maintain(*key))
                if over:
                    found.append(Cut(*key))
                if not running.capabilities.can_delete:
                    del self._gone[key]
                    continue
                self._gone[key].pause = FIRST
                self._gone[key].at = now + FIRST
            elif running.capabilities.can_delete:
                found += [Cut(*key), Delete(*key)] if over else [Delete(*key)]
        return tuple(found)
