"""Follows the live files of one directory: inotify says where to look, a slow re-read finds what it missed."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit, Warn
from dockstack.registry import Lease
from dockstack.registry.file import locks
from dockstack.registry.url import fold
from dockstack.runtime.latest import Latest

if TYPE_CHECKING:
    from asyncinotify import Event as FileEvent
    from asyncinotify import Inotify

T = TypeVar("T")

UNWATCHED = 0.5
"""Seconds between two readings while there is no inotify, or the directory cannot be read."""

_AT_ONCE = 200  # files looked at before the event loop has its turn
# The kernel reports the close of a dead owner's file some microseconds before it frees the lock: look again.
_SECOND_LOOKS = (0.01, 0.2)


@dataclass(frozen=True, slots=True)
class Contents:
    """One reading of a directory: data of the live files by name, and what is wrong with the others."""

    nodes: Mapping[str, bytes]
    problems: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Owned:
    """A registration of ours: its lease, where it is, and the file that holds it until it is `gone`."""

    lease: Lease
    directory: Directory
    prefix: str
    data: bytes
    held: locks.Held
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def let_go(self) -> None:
        """Closes the file, so that it is dead wherever it may be, and wakes who waits for the loss."""
        self.held.close()
        self.gone.set()


class Place:
    """The root directory: made where it is missing, and not taken for empty when its mount is gone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._device: int | None = None

    def directory(self, path: str) -> Path:
        parts = fold(path)[1:].split("/")
        if any(part.startswith(".") for part in parts):
            raise RegistryUnavailable(
                f"{self.root}: the path {path} has a part that begins with a dot; name it otherwise"
            )
        return self.root.joinpath(*parts)

    def make(self, directory: Path) -> None:
        """Makes the directory if the root is where it was; raises OSError, or RegistryUnavailable."""
        place, device = self.root, None
        while device is None:
            try:
                device = place.stat().st_dev
            except FileNotFoundError:
                place = place.parent
        if self._device not in (None, device):
            raise RegistryUnavailable(
                f"{self.root}: is on another file system than before: its mount is gone, or came after this program"
            )
        directory.mkdir(parents=True, exist_ok=True)
        if self._device is None:
            self._device = self.root.stat().st_dev


class Directory:
    """Follows one directory: the newest reading of it is in `contents`, or why it cannot be read."""

    def __init__(self, path: Path, place: Place, watches: Watches, reread: float) -> None:
        self.path = path
        self.contents: Latest[Contents | RegistryUnavailable] = Latest()
        self.served = 0
        self.owners: dict[str, set[Owned]] = {}
        self._place = place
        self._watches = watches
        self._reread = reread
        self._demanded = 0
        self._files: dict[str, locks.LiveFile] = {}
        self._problems: dict[str, str] = {}
        self._whole = False
        self._dirty: set[str] = set()
        self._again: dict[str, tuple[float, ...]] = {}
        self._wake = asyncio.Event()
        self._locks_work = False

    def demand(self) -> int:
        """Asks for a reading of everything that begins after this moment: it is done when `served` is this number."""
        self._demanded += 1
        self._wake.set()
        return self._demanded

    def notice(self, name: str, closed: bool) -> None:
        """Something happened to this file."""
        self._dirty.add(name)
        if closed:
            now = asyncio.get_running_loop().time()
            self._again[name] = tuple(now + later for later in _SECOND_LOOKS)
        self._wake.set()

    def prepare(self) -> None:
        """Makes the directory, and refuses it where locks do not work; raises OSError or RegistryUnavailable."""
        self._place.make(self.path)
        if not self._locks_work:
            locks.refuse_without_locks(self.path)
            self._locks_work = True

    def look(self, name: str) -> None:
        """Brings what is known of one file up to date, and tells its owners if it is gone.

        Raises OSError or RegistryUnavailable where that cannot be known.
        """
        before, problem = self._files.get(name), None
        try:
            now = self._live(name, before)
        except ValueError as error:
            now, problem = None, f"{self.path}/{ascii(name)[1:-1]}: {error}"
        if now is None and before is not None:
            self._place.make(self.path)  # raises where not this file is gone, but everything out of reach
        _set(self._files, name, now)
        _set(self._problems, name, problem)
        if now is None and problem is None:
            for owned in self.owners.get(name, ()):
                owned.let_go()

    async def follow(self) -> None:
        """Reads everything now and then, and each file that something happened to, for ever."""
        clock = asyncio.get_running_loop().time
        due = 0.0
        while True:
            try:
                if self.served < self._demanded or clock() >= due:
                    due = clock() + await self._read_all()
                elif self._whole:
                    self._read_some(clock())
            except (OSError, RegistryUnavailable) as error:
                self._whole, self.served = False, self._demanded
                self._dirty.clear()
                self._again.clear()
                due = clock() + min(UNWATCHED, self._reread)
                self.contents.put(as_unavailable(error, self.path))
            ahead = min((times[0] for times in self._again.values()), default=due)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(due, ahead) - clock())):
                    await self._wake.wait()
            self._wake.clear()

    async def _read_all(self) -> float:
        """Looks at everything, and returns the seconds until the next time."""
        serving = self._demanded
        self.prepare()
        watched = self._watches.watch(self)
        self._dirty.clear()
        with os.scandir(self.path) as entries:
            names = {e.name for e in entries if not e.name.startswith(".") and not e.is_dir(follow_symlinks=False)}
        for count, name in enumerate(names | self._files.keys() | self._problems.keys(), 1):
            self.look(name)
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)
        self._whole, self.served = True, serving
        self._publish()
        return self._reread * random.uniform(0.75, 1.25) if watched else min(UNWATCHED, self._reread)

    def _read_some(self, now: float) -> None:
        dirty, self._dirty = self._dirty, set()
        for name in [name for name, times in self._again.items() if times[0] <= now]:
            dirty.add(name)
            rest = self._again.pop(name)[1:]
            if rest:
                self._again[name] = rest
        for name in dirty:
            self.look(name)
        if dirty:
            self._publish()

    def _live(self, name: str, before: locks.LiveFile | None) -> locks.LiveFile | None:
        path = self.path / name
        try:
            name.encode()
            return locks.look(path, before)
        except UnicodeEncodeError:
            raise ValueError("the name is not UTF-8") from None
        except PermissionError as error:
            path.lstat()  # raises where it is the directory that may not be searched
            raise ValueError("this user may not read the file") from error
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise ValueError("a symbolic link is no registration") from error

    def _publish(self) -> None:
        nodes = {name: file.data for name, file in self._files.items()}
        self.contents.put(Contents(nodes, tuple(self._problems[name] for name in sorted(self._problems))))


def _set(mapping: dict[str, T], key: str, value: T | None) -> None:
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value


class Watches:
    """Which inotify watch belongs to which directory."""

    def __init__(self, inotify: Inotify | None, emit: Emit) -> None:
        self._inotify = inotify
        self._emit = emit
        self._directories: dict[int, Directory] = {}
        self._watched: dict[Directory, tuple[object, int]] = {}
        self._said = False

    def watch(self, directory: Directory) -> bool:
        """Watches the directory that has this path now; false where the kernel gives no watch. Raises OSError."""
        if self._inotify is None:
            return False
        from asyncinotify import Mask

        status = directory.path.stat()
        identity = (status.st_dev, status.st_ino)
        before = self._watched.get(directory)
        if before is not None and before[0] == identity:
            return True
        self._forget(directory)
        events = Mask.CLOSE_WRITE | Mask.MOVE | Mask.DELETE | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
        try:
            watch = self._inotify.add_watch(directory.path, events)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            if not self._said:
                self._said = True
                self._emit(
                    Warn(
                        f"{directory.path}: no inotify watch is left, so directories are read every {UNWATCHED} s; "
                        "raise fs.inotify.max_user_watches"
                    )
                )
            return False
        self._directories[watch.wd] = directory
        self._watched[directory] = (identity, watch.wd)
        return True

    def notice(self, event: FileEvent) -> None:
        """Tells the directory what happened in it."""
        from asyncinotify import Mask

        if Mask.Q_OVERFLOW in event.mask:
            for each in self._directories.values():
                each.demand()
        directory = self._directories.get(event.watch.wd) if event.watch is not None else None
        if directory is None:
            return
        if event.mask & (Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED):
            self._forget(directory)
            directory.demand()
        elif event.name is not None and not str(event.name).startswith(".") and Mask.ISDIR not in event.mask:
            directory.notice(str(event.name), Mask.CLOSE_WRITE in event.mask)

    def _forget(self, directory: Directory) -> None:
        before = self._watched.pop(directory, None)
        if before is None or self._inotify is None:
            return
        del self._directories[before[1]]
        for watch in self._inotify.watches:
            if watch.wd == before[1]:
                with suppress(OSError):
                    self._inotify.rm_watch(watch)


def as_unavailable(error: OSError | RegistryUnavailable, path: Path) -> RegistryUnavailable:
    if isinstance(error, RegistryUnavailable):
        return error
    return RegistryUnavailable(f"{error.filename or path}: {error.strerror or error}")
