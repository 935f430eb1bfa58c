"""Sends metrics by UDP, and is never in the way of what they are about."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from random import random

from dockstack.events import Emit, Event
from dockstack.runtime.scope import servants
from dockstack.settings.common import StatsdSettings
from dockstack.statsd import Metric, Metrics, datagrams, line

FLUSH = 0.2
"""Seconds for which metrics are gathered at least: equal counts become one line, and lines one datagram."""

LATEST = 2.0
"""Seconds for which metrics wait at most. Between the two they go with the next ones: to wake for them alone costs more
than all the rest of them."""

MOST = 20_000
"""Lines that wait at most, as long as the host's name cannot be resolved; then the newest are dropped."""

RESOLVE = 60.0
"""Seconds after which the host's name is looked up again."""

_UNRESOLVED = 5.0


class _Waiting:
    """What is to be sent next; equal counts are one."""

    def __init__(self, rates: Mapping[str, float], metrics: Metrics) -> None:
        self._rates = rates
        self._metrics = metrics
        self._counts: dict[Metric, float] = {}
        self._others: list[Metric] = []
        self.some = asyncio.Event()
        self.due = asyncio.Event()
        self._since = 0.0

    def take(self, event: Event) -> None:
        """Adds what the event is worth; no I/O."""
        for metric in self._metrics(event):
            rate = self._rates.get(metric.name, 1.0)
            if rate < 1 and random() >= rate:
                continue
            if len(self._counts) + len(self._others) >= MOST:
                return
            self._note()
            if metric.kind == "c":
                self._counts[metric] = self._counts.get(metric, 0) + metric.value
            else:
                self._others.append(metric)

    def _note(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self.some.is_set():
            self._since = now
            self.some.set()
        elif now - self._since >= FLUSH:
            self.due.set()

    def lines(self) -> list[str]:
        """All that waited, which is gone then."""
        self.some.clear()
        self.due.clear()
        counts, self._counts = self._counts, {}
        others, self._others = self._others, []
        return [
            *(line(Metric(one.name, one.tags, count), self._rates.get(one.name, 1)) for one, count in counts.items()),
            *(line(one, self._rates.get(one.name, 1)) for one in others),
        ]


@asynccontextmanager
async def sending(settings: StatsdSettings | None, metrics: Metrics) -> AsyncIterator[Emit]:
    """A subscriber of events that sends their metrics while the context is open, and what is left at its end.

    Nothing that happens to a metric on its way is an error: a name that cannot be resolved, a port where nobody
    listens, a full buffer. Without settings they go to localhost:8125, as SmartStack's do.
    """
    settings = settings or StatsdSettings()
    waiting = _Waiting(settings.sample_rate, metrics)
    address = _Address(settings.host, int(settings.port))
    try:
        async with servants() as tasks:
            tasks.create_task(address.follow())
            tasks.create_task(_flush_now_and_then(waiting, address))
            yield waiting.take
    finally:
        address.send(waiting.lines())
        address.close()


async def _flush_now_and_then(waiting: _Waiting, address: _Address) -> None:
    await address.known.wait()
    while True:
        await waiting.some.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(LATEST):
                await waiting.due.wait()
        address.send(waiting.lines())


class _Address:
    """Where the metrics go: a socket, as soon as the name is resolved; resolved again and again, as names move."""

    def __init__(self, host: str, port: int) -> None:
        self.known = asyncio.Event()
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None

    async def follow(self) -> None:
        """Looks the name up, for ever."""
        while True:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
            except (OSError, UnicodeError):
                await asyncio.sleep(_UNRESOLVED)
                continue
            family, _, _, _, where = next((one for one in found if one[0] == socket.AF_INET), found[0])
            self._connect(family, where)
            await asyncio.sleep(RESOLVE)

    def send(self, lines: Iterable[str]) -> None:
        """Sends what the kernel takes at once; the rest is lost."""
        if self._socket is None:
            return
        for each in datagrams(lines):
            with suppress(OSError):
                self._socket.send(each)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self, family: int, where: object) -> None:
        fresh = socket.socket(family, socket.SOCK_DGRAM)
        fresh.setblocking(False)
        try:
            fresh.connect(where)  # type: ignore[arg-type]
        except OSError:
            fresh.close()
            return
        self.close()
        self._socket = fresh
        self.known.set()
