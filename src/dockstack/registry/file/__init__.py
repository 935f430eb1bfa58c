"""A registry in a directory of this machine: a directory per path, a JSON file per registration.

A registration lives as long as its owner holds the lock on its file, so the kernel itself tells of an owner's death.
A node's kind decides about its name only: persistent ones go with their owner, too.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit, Warn
from dockstack.registry import Decoder, Lease, Locator, Registration, Registry, Snapshot
from dockstack.registry.codec import Decoding, NerveDecoder, encode, node_prefix, sequence_of
from dockstack.registry.file import locks
from dockstack.registry.file.directory import UNWATCHED, Directory, Owned, Place, Watches, as_unavailable
from dockstack.runtime.process import raise_file_limit
from dockstack.runtime.scope import servants

if TYPE_CHECKING:
    from asyncinotify import Inotify

REREAD = 3.0
"""Seconds between two readings of everything; changes are seen at once by inotify, this is for what it misses."""

_TEMPORARY = ".tmp-"
_LONGEST_PREFIX = 240  # bytes; a file's name has at most 255, and ten of them are digits


@asynccontextmanager
async def open(locator: Locator, emit: Emit, reread: float = REREAD) -> AsyncIterator[Registry]:
    """The registry in the directory `locator.root`, which is made when it is first used.

    Each registration holds a file open, so the limit of open files is raised to the hard one.
    """
    from asyncinotify import Inotify

    raise_file_limit()
    try:
        inotify = Inotify(cache_size=256)
    except OSError as error:
        emit(Warn(f"inotify is not to be had ({error.strerror}): {locator.root} is read every {UNWATCHED} s"))
        inotify = None
    try:
        async with servants() as tasks:
            registry = _FileRegistry(Path(locator.root), emit, reread, tasks, inotify)
            if inotify is not None:
                tasks.create_task(registry.listen(inotify))
            try:
                yield registry
            finally:
                await registry.close()
    finally:
        if inotify is not None:
            inotify.close()


class _FileRegistry:
    def __init__(
        self, root: Path, emit: Emit, reread: float, tasks: asyncio.TaskGroup, inotify: Inotify | None
    ) -> None:
        self._place = Place(root)
        self._watches = Watches(inotify, emit)
        self._reread = reread
        self._tasks = tasks
        self._directories: dict[Path, Directory] = {}
        self._owned: dict[str, Owned] = {}
        self._cleared: set[tuple[Path, str | None]] = set()
        self._token = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    @property
    def state(self) -> str:
        for directory in self._directories.values():
            if isinstance(trouble := directory.contents.peek(), RegistryUnavailable):
                return str(trouble)
        return f"directory {self._place.root}"

    @property
    def reachable(self) -> bool:
        # One directory stands for all, which are below one root: this is asked in each round of each service.
        first = next(iter(self._directories.values()), None)
        return first is None or not isinstance(first.contents.peek(), RegistryUnavailable)

    async def put(self, registration: Registration) -> Lease:
        data, prefix = encode(registration), _prefix(registration)
        directory = self._directory(registration.path)
        with _unavailable(directory.path):
            directory.prepare()
            async with locks.writing(directory.path) as counter:
                self._clear(directory, registration)
                owned = self._written(registration, directory, prefix, data, counter)
            directory.look(owned.lease.node)
        return owned.lease

    async def remove(self, lease: Lease) -> None:
        owned = self._owned.get(lease.registration.key)
        if owned is None or owned.lease.session != lease.session:
            return
        with _unavailable(owned.directory.path):
            owned.directory.prepare()
            async with locks.writing(owned.directory.path):
                self._drop(owned)
            owned.directory.look(lease.node)

    def holds(self, lease: Lease) -> bool:
        owned = self._owned.get(lease.registration.key)
        return owned is not None and owned.lease.session == lease.session and not owned.gone.is_set()

    async def lost(self, lease: Lease) -> None:
        while self.holds(lease):
            await self._owned[lease.registration.key].gone.wait()

    async def watch(self, path: str, decoder: Decoder) -> AsyncIterator[Snapshot]:
        directory = self._directory(path)
        ticket, version, last = directory.demand(), 0, None
        decoding = Decoding(path, decoder)
        while True:
            version, contents = await directory.contents.after(version)
            if directory.served < ticket or contents == last:
                continue
            if isinstance(contents, RegistryUnavailable):
                raise RegistryUnavailable(str(contents))
            last = contents
            yield decoding.snapshot(contents.nodes, problems=contents.problems)

    async def listen(self, inotify: Inotify) -> None:
        """Hears what the kernel has to tell, for ever."""
        async for event in inotify:
            self._watches.notice(event)

    async def close(self) -> None:
        """Withdraws what is left; a file that cannot be deleted now is dead all the same. Waits for 1 s at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                for owned in tuple(self._owned.values()):
                    with suppress(RegistryUnavailable):
                        await self.remove(owned.lease)
        for owned in self._owned.values():
            owned.let_go()

    def _directory(self, path: str) -> Directory:
        place = self._place.directory(path)
        directory = self._directories.get(place)
        if directory is None:
            directory = self._directories[place] = Directory(place, self._place, self._watches, self._reread)
            self._tasks.create_task(directory.follow())
        return directory

    def _written(
        self, registration: Registration, directory: Directory, prefix: str, data: bytes, counter: int
    ) -> Owned:
        """The registration on disk: left, replaced in one step, or new; what it replaces elsewhere is deleted then."""
        before = self._owned.get(registration.key)
        same = (
            before is not None
            and not before.gone.is_set()
            and before.directory is directory
            and (before.prefix, before.lease.registration.kind) == (prefix, registration.kind)
            and locks.is_there(directory.path, before.lease.node, before.held)
        )
        if before is not None and same:
            if before.data != data:
                held = locks.create(directory.path, self._temporary(), before.lease.node, data)
                before.held.close()
                before.held, before.data = held, data
            before.lease = Lease(registration, before.lease.node, before.lease.session)
            return before
        name = prefix
        if registration.kind.sequential:
            name += f"{self._number(directory.path, prefix, counter):010d}"
        held = locks.create(directory.path, self._temporary(), name, data)
        lease = Lease(registration, name, f"{self._token}.{next(self._numbers)}")
        owned = self._owned[registration.key] = Owned(lease, directory, prefix, data, held)
        directory.owners.setdefault(name, set()).add(owned)
        if before is not None:
            self._drop(before)
        return owned

    def _drop(self, owned: Owned) -> None:
        """Deletes the file, unless another one has that name by now, and lets go of it in any case."""
        name, directory = owned.lease.node, owned.directory
        try:
            if not owned.gone.is_set() and locks.is_there(directory.path, name, owned.held):
                (directory.path / name).unlink(missing_ok=True)
        finally:
            owned.let_go()
            directory.owners[name].discard(owned)
            if not directory.owners[name]:
                del directory.owners[name]
            if self._owned.get(owned.lease.registration.key) is owned:
                del self._owned[owned.lease.registration.key]

    def _number(self, directory: Path, prefix: str, counter: int) -> int:
        while True:
            number = locks.next_number(counter, lambda: _first_number(os.listdir(directory)))
            if not os.path.lexists(directory / f"{prefix}{number:010d}"):
                return number

    def _temporary(self) -> str:
        return f"{_TEMPORARY}{self._token}-{next(self._numbers)}"

    def _clear(self, directory: Directory, registration: Registration) -> None:
        """At the first registration of an instance in a directory: deletes what its dead predecessors left there."""
        instance = registration.instance.name
        if (directory.path, instance) in self._cleared:
            return
        for name in os.listdir(directory.path):
            if name.startswith(_TEMPORARY) or _is_of(instance, name):
                path = directory.path / name
                if locks.is_dead(path):
                    path.unlink(missing_ok=True)
        self._cleared.add((directory.path, instance))


def _prefix(registration: Registration) -> str:
    prefix = node_prefix(registration)
    if len(prefix.encode()) > _LONGEST_PREFIX:
        prefix = f"{registration.instance.name}_"
    if prefix.startswith("."):
        raise RegistryUnavailable(f"the name {prefix[:-1]} begins with a dot: such files are hidden; name it otherwise")
    return prefix


def _is_of(instance: str | None, name: str) -> bool:
    if encoded := NerveDecoder().from_name(name):
        return encoded.name == instance
    start, _, number = name.rpartition("_")
    return start == instance and (not number or number.isdigit())


def _first_number(names: Iterable[str]) -> int:
    return 1 + max((number for name in names if (number := sequence_of(name)) is not None), default=-1)


@contextmanager
def _unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise as_unavailable(error, path) from error
