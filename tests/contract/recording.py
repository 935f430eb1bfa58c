"""What a contract looks at: a watch as synapse follows it, services as nerve keeps them, tasks that should be gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from dockstack.errors import RegistryUnavailable
from dockstack.events import Event
from dockstack.model import Instance
from dockstack.nerve.report import Reported, keep
from dockstack.registry import Lease, NodeKind, Registration, Registry, Snapshot
from dockstack.registry.codec import NerveDecoder
from dockstack.runtime.latest import Latest
from dockstack.runtime.loops import follow, until_done
from dockstack.runtime.scope import servants
from tests.waiting import eventually

PATH = "/a/path"
NERVE = NerveDecoder()


def quiet(event: Event) -> None:
    pass


def copy(
    number: int, weight: int | None = None, kind: NodeKind = NodeKind.EPHEMERAL_SEQUENTIAL, path: str = PATH
) -> Registration:
    """The registration of the service's copy with this number, which is its port, too."""
    return Registration(f"service/{number}", path, Instance("10.0.0.1", number, "i", weight=weight), kind)


def ports(snapshot: Snapshot) -> list[int]:
    return sorted(int(instance.port) for instance in snapshot.instances)


class Recorder:
    """All snapshots that a watch has given, and how often it said that the registry is unavailable."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.failures = 0

    async def until(self, wanted: Iterable[int], limit: float = 20.0) -> Snapshot:
        """Waits until the newest snapshot has exactly these ports."""
        ports_wanted = sorted(wanted)

        def seen() -> bool:
            return bool(self.snapshots) and ports(self.snapshots[-1]) == ports_wanted

        what = f"{len(ports_wanted)} instances seen"
        await eventually(seen, what, limit)
        return self.snapshots[-1]


@asynccontextmanager
async def watching(registry: Registry, path: str = PATH) -> AsyncIterator[Recorder]:
    """Follows the path as synapse does: an unavailable registry is asked again."""
    recorder = Recorder()

    def failed(event: Event) -> None:
        recorder.failures += 1

    async def record() -> None:
        async for snapshot in follow(path, lambda: registry.watch(path, NERVE), (RegistryUnavailable,), failed):
            recorder.snapshots.append(snapshot)

    async with servants() as tasks:
        tasks.create_task(record())
        yield recorder


class Kept:
    """Services that nerve keeps registered."""

    def __init__(self, registry: Registry, reports: Sequence[Latest[Reported]]) -> None:
        self._registry = registry
        self._reports = reports

    @property
    def leases(self) -> list[Lease]:
        """The leases of the services that are registered now."""
        reported = [report.peek() for report in self._reports]
        leases = [report.lease for report in reported if report is not None and report.lease is not None]
        return [lease for lease in leases if self._registry.holds(lease)]

    async def until_all(self, other_than: Iterable[Lease] = (), limit: float = 20.0) -> list[Lease]:
        """Waits until every service is registered, by other leases than the given ones."""
        old = set(other_than)

        def registered() -> bool:
            return len(self.leases) == len(self._reports) and not old & set(self.leases)

        await eventually(registered, f"{len(self._reports)} services registered", limit)
        return self.leases


@asynccontextmanager
async def kept(registry: Registry, registrations: Sequence[Registration]) -> AsyncIterator[Kept]:
    """Keeps these registered as nerve does, until the block ends; then they are withdrawn."""
    reports: list[Latest[Reported]] = [Latest() for _ in registrations]
    async with servants() as tasks:
        for registration, report in zip(registrations, reports, strict=True):
            wishes: Latest[Registration | None] = Latest()
            wishes.put(registration)
            tasks.create_task(keep(registration.key, wishes, registry, reports=report, emit=quiet))
        yield Kept(registry, reports)


async def all_put(registry: Registry, registrations: Iterable[Registration]) -> list[Lease]:
    return await asyncio.gather(*(registry.put(registration) for registration in registrations))


async def put_again(registry: Registry, registration: Registration, limit: float = 20.0) -> Lease:
    """Puts as nerve does: what the registry refuses is tried again."""
    async with asyncio.timeout(limit):
        return await until_done("put", lambda: registry.put(registration), (RegistryUnavailable,), quiet)


async def remove_again(registry: Registry, lease: Lease, limit: float = 20.0) -> None:
    """Removes as nerve does: what the registry refuses is tried again."""
    async with asyncio.timeout(limit):
        await until_done("remove", lambda: registry.remove(lease), (RegistryUnavailable,), quiet)


async def never(condition: Callable[[], bool], what: str, during: float) -> None:
    """Looks for `during` seconds, and fails as soon as the condition holds."""
    try:
        await eventually(condition, what, during)
    except TimeoutError:
        return
    raise AssertionError(what)


def tasks_of_ours(before: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    """Tasks that have come since `before`, without the proxy's."""
    new = asyncio.all_tasks() - before
    return {task for task in new if "TcpProxy" not in getattr(task.get_coro(), "__qualname__", "")}
