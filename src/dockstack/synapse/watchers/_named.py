"""Following instances that are known by name: what the methods `dns` and `zookeeper_dns` share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dockstack.errors import ConfigurationError, Problem
from dockstack.events import Emit, Warn
from dockstack.registry import Snapshot
from dockstack.registry.url import parse_hosts
from dockstack.settings.discovery import DnsSource
from dockstack.synapse import nameserver
from dockstack.synapse.agenda import Agenda
from dockstack.synapse.events import Unresolved
from dockstack.synapse.lookups import Question, Records
from dockstack.synapse.nameserver import LookupFailed, Nameservers
from dockstack.synapse.watchers import Watcher

PORT = 53

AT_ONCE = 64
"""How many questions of one watcher are under way at the most."""


class Lookups(Protocol):
    """What the watcher needs of nameservers."""

    async def records(self, question: Question) -> Records:
        """The records; raises LookupFailed within a deadline."""


@dataclass(frozen=True, slots=True)
class NamedWatcher:
    """The instances of `members`, with the addresses of their hosts instead of names.

    Each name is looked at for itself, every `interval` seconds or as its records want it. A look that fails keeps what
    the name had. Where DNS has told nothing about any name of a set, the instances of the last one stay.
    """

    members: Watcher
    lookups: Lookups
    interval: float
    emit: Emit

    async def follow(self) -> AsyncIterator[Snapshot]:
        """The whole set once all its names were asked for, then at each change of the members or of an address."""
        clock = asyncio.get_running_loop().time
        agenda = Agenda(self.interval, random.random)
        stream = aiter(self.members.follow())
        reading = asyncio.ensure_future(_next(stream))
        asking: dict[Question, asyncio.Future[Records | str]] = {}
        last: Snapshot | None = None
        said: frozenset[str] = frozenset()
        try:
            while True:
                for question in agenda.begin(clock(), AT_ONCE):
                    asking[question] = asyncio.ensure_future(self._ask(question))
                await _first_of([reading, *asking.values()], agenda.wakes(clock()))
                if reading.done():
                    agenda.take(reading.result())
                    reading = asyncio.ensure_future(_next(stream))
                for question in [question for question, task in asking.items() if task.done()]:
                    agenda.learn(question, asking.pop(question).result(), clock())
                found = agenda.resolution(clock())
                if found is None:
                    continue
                fresh = found.snapshot
                if not found.known:
                    if last is None:
                        said = _told(fresh.problems, said, self.emit)
                        continue
                    fresh = replace(fresh, instances=last.instances)
                if fresh != last:
                    last = fresh
                    yield fresh
        finally:
            left: list[asyncio.Future[Any]] = [reading, *asking.values()]
            for one in left:
                one.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _ask(self, question: Question) -> Records | str:
        try:
            found = await self.lookups.records(question)
        except LookupFailed as error:
            self.emit(Unresolved(question.name, question.kind, str(error)))
            return str(error)
        if not found.exists:
            self.emit(Unresolved(question.name, question.kind, "there is no such name"))
        return found


def named(members: Watcher, settings: DnsSource, emit: Emit) -> NamedWatcher:
    """The watcher of these members. Raises ConfigurationError where DNS cannot be asked as the settings want it."""
    where = f"discovery {getattr(settings, 'method', '')}"
    nameserver.require(where)
    try:
        servers = parse_hosts(settings.nameserver, PORT)[0] if settings.nameserver else ()
    except ValueError as error:
        raise ConfigurationError(Problem(f"{where}: nameserver", str(error))) from error
    return NamedWatcher(members, Nameservers(servers), settings.check_interval, emit)


def _told(problems: Iterable[str], said: Collection[str], emit: Emit) -> frozenset[str]:
    """Tells of each problem once: of a set that is not yielded nobody else does."""
    new = frozenset(problems)
    for problem in sorted(new.difference(said)):
        emit(Warn(problem))
    return new


async def _first_of(tasks: Iterable[asyncio.Future[Any]], at: float | None) -> None:
    """Returns when one of the tasks is done, or at this time of the loop."""
    pause = None if at is None else max(0.0, at - asyncio.get_running_loop().time())
    await asyncio.wait(tasks, timeout=pause, return_when=asyncio.FIRST_COMPLETED)


async def _next(stream: AsyncIterator[Snapshot]) -> Snapshot:
    async for snapshot in stream:
        return snapshot
    await asyncio.Event().wait()  # the members stay as they are
    raise AssertionError("nobody sets it")
