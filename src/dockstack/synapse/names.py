"""Addresses of hosts that are given by name. HAProxy gets addresses only: a name that does not resolve is one server
less, where HAProxy would refuse the whole file, or never serve the server.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Callable, Iterable, Mapping

from dockstack.events import Emit, Warn

EVERY = 30.0
"""Seconds between two looks at a name (jittered to 75-125 %)."""

AGAIN = 3.0
"""Seconds until a name that could not be resolved is looked at again."""

LIMIT = 5.0
"""Seconds that one lookup may take."""

_AT_ONCE = 16

Lookup = Callable[[str], tuple[str, ...]]


def system_lookup(host: str) -> tuple[str, ...]:
    """The host's addresses by the system's resolver, IPv4 before IPv6. Blocks. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = {str(one[4][0]).partition("%")[0]: one[0] for one in found}
    return tuple(sorted(addresses, key=lambda address: (addresses[address] != socket.AF_INET, address)))


def choose(current: str | None, found: tuple[str, ...]) -> str:
    """One of the addresses: the one in use while it is among them, so that an order that rotates moves nothing."""
    return current if current in found else found[0]


class Names:
    """The newest address of every name that is asked for; a name that stops resolving keeps its last one."""

    def __init__(self, emit: Emit, lookup: Lookup = system_lookup) -> None:
        self._emit = emit
        self._lookup = lookup
        self._wanted: frozenset[str] = frozenset()
        self._known: dict[str, str] = {}
        self._failed: set[str] = set()
        self._due: dict[str, float] = {}
        self._under_way: set[str] = set()
        self._news = asyncio.Event()

    @property
    def addresses(self) -> Mapping[str, str]:
        """Name → address, of those that have resolved."""
        return self._known

    def pending(self, host: str) -> bool:
        """Whether nothing is known about a name yet: neither an address nor that there is none."""
        return host not in self._known and host not in self._failed

    @property
    def unknown(self) -> frozenset[str]:
        """The names that are followed and of which nothing is known yet."""
        return frozenset(filter(self.pending, self._wanted))

    def want(self, hosts: Iterable[str]) -> None:
        """These names are followed, and no others; new ones are looked up at once. No I/O here."""
        wanted = frozenset(hosts)
        if wanted == self._wanted:
            return
        for gone in self._wanted - wanted:
            self._known.pop(gone, None)
            self._failed.discard(gone)
            self._due.pop(gone, None)
        self._wanted = wanted
        self._news.set()

    async def run(self, changed: Callable[[frozenset[str]], None]) -> None:
        """Looks names up, for ever. `changed` is told each name that has got another address, or none at first."""
        loop = asyncio.get_running_loop()
        slots = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._due = {host: self._due.get(host, 0.0) for host in self._wanted}
                now = loop.time()
                for host in [host for host, at in self._due.items() if at <= now]:
                    self._due[host] = now + EVERY * random.uniform(0.75, 1.25)
                    if host not in self._under_way:  # it may wait for a slot, or for an answer, for longer than that
                        self._under_way.add(host)
                        tasks.create_task(self._look(host, slots, changed))
                pause = min(self._due.values(), default=now + 3600.0) - now
                try:
                    async with asyncio.timeout(pause):
                        await self._news.wait()
                except TimeoutError:
                    continue
                self._news.clear()

    async def _look(self, host: str, slots: asyncio.Semaphore, changed: Callable[[frozenset[str]], None]) -> None:
        async with slots:
            try:
                found = await looked_up(host, self._lookup)
            except TimeoutError:
                news = self._miss(host, f"no answer within {LIMIT:g} s")
            except OSError as error:
                news = self._miss(host, error.strerror or str(error))
            else:
                news = self._hit(host, found)
        self._under_way.discard(host)
        if news:
            changed(frozenset((host,)))

    def _hit(self, host: str, found: tuple[str, ...]) -> bool:
        """Takes an answer; whether the address is another one now."""
        if host not in self._wanted:
            return False
        before = self._known.get(host)
        self._known[host] = choose(before, found)
        self._failed.discard(host)
        return self._known[host] != before

    def _miss(self, host: str, reason: str) -> bool:
        """Takes a failure; whether it is news that there is no address."""
        if host not in self._wanted:
            return False
        self._due[host] = asyncio.get_running_loop().time() + AGAIN
        self._news.set()
        if host in self._failed:
            return False
        self._failed.add(host)
        last = self._known.get(host)
        self._emit(Warn(f"the host {host} cannot be resolved ({reason}); {_meanwhile(last)}"))
        return last is None


def _meanwhile(last: str | None) -> str:
    return "its servers are left out until it can" if last is None else f"its last address {last} stays in use"


async def looked_up(host: str, lookup: Lookup = system_lookup) -> tuple[str, ...]:
    """The lookup in a thread that nobody waits for at the end of the process. Raises OSError and TimeoutError."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def deliver(found: tuple[str, ...], error: OSError | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found)

    def work() -> None:
        found: tuple[str, ...] = ()
        failure: OSError | None = None
        try:
            found = lookup(host)
        except (OSError, UnicodeError) as error:  # a label over 63 characters is an error of the codec
            failure = error if isinstance(error, OSError) else OSError(0, str(error))
        try:
            loop.call_soon_threadsafe(deliver, found, failure)
        except RuntimeError:
            return  # the loop is closed: the daemon has ended meanwhile

    threading.Thread(target=work, name=f"lookup {host}", daemon=True).start()
    async with asyncio.timeout(LIMIT):
        return await answer
