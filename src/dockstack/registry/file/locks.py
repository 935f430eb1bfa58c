"""Files that live as long as their owner holds a lock (flock) on them: written, looked at, and told from dead ones.

flock and not fcntl's record locks: those are lost when any descriptor of the file is closed in the owning process, and
do not conflict within one process.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dockstack.errors import RegistryUnavailable

MUTEX = ".registry"
LARGEST = 1 << 20
"""Bytes; a larger file is no registration."""

_TRIES = 20
_PATIENCE = 2.0  # seconds; writers hold the mutex for well under a millisecond


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A file whose owner is alive: which one it is (inode, and nanoseconds of its last change), and its data."""

    inode: int
    modified: int
    data: bytes


@dataclass(slots=True)
class Held:
    """A file of our own: its open, locked descriptor and its inode. Closing lets go of the lock."""

    descriptor: int
    inode: int

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def refuse_without_locks(directory: Path) -> None:
    """Raises RegistryUnavailable where flock does not exclude: there a dead owner could not be told from a live one.

    It locks the directory itself, which needs no right to write.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    first = os.open(directory, flags)
    try:
        second = os.open(directory, flags)
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError as error:
            reason = f"locking fails there: {error.strerror}"
        else:
            reason = "two can hold the same lock there"
        finally:
            os.close(second)
    finally:
        os.close(first)
    raise RegistryUnavailable(
        f"{directory}: flock does not work in this directory ({reason}), so nobody could see an owner's death; "
        "use a directory on a local file system"
    )


def look(path: Path, before: LiveFile | None = None) -> LiveFile | None:
    """The file if its owner is alive, else None (dead, gone, or no plain file). Data is read only if it is new.

    Raises OSError where that cannot be known, and ValueError for a file that is too large.
    """
    for _ in range(_TRIES):
        try:
            # NONBLOCK: the open of a FIFO must not wait for a writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None
            if not _is_free(descriptor):
                return _read(descriptor, status, before)
            if _inode_of(path) == status.st_ino:
                return None
            # The owner has put another file in its place since it was opened, and let go of this one.
        finally:
            os.close(descriptor)
    raise RegistryUnavailable(f"{path}: is replaced faster than it can be read")


def create(directory: Path, temporary: str, name: str, data: bytes) -> Held:
    """Puts a file that is complete and locked from the first moment under its name, over what has that name.

    Raises OSError; nothing is left then.
    """
    before = directory / temporary
    descriptor = os.open(before, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        inode = os.fstat(descriptor).st_ino
        before.rename(directory / name)
    except BaseException:
        os.close(descriptor)
        before.unlink(missing_ok=True)
        raise
    return Held(descriptor, inode)


def is_there(directory: Path, name: str, held: Held) -> bool:
    """Whether the name still stands for this very file; raises OSError where that cannot be known."""
    return _inode_of(directory / name) == held.inode


def is_dead(path: Path) -> bool:
    """Whether the path is a plain file whose lock nobody holds."""
    try:
        return look(path) is None and stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, ValueError):
        return False


@asynccontextmanager
async def writing(directory: Path) -> AsyncIterator[int]:
    """One writer at a time in this directory, in all processes; yields the descriptor of a file with its counter.

    Raises OSError, and RegistryUnavailable if somebody else writes for 2 s.
    """
    path = directory / MUTEX
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        clock = asyncio.get_running_loop().time
        end = clock() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock() > end:
                    raise RegistryUnavailable(f"{path}: locked by another process for {_PATIENCE:g} s") from None
            await asyncio.sleep(0.001)
        yield descriptor
    finally:
        os.close(descriptor)


def next_number(counter: int, first: Callable[[], int]) -> int:
    """A number that was never given before in this directory: the counter's, or `first()` where it says nothing."""
    text = os.pread(counter, 20, 0)
    number = int(text) if text.isdigit() else first()
    os.pwrite(counter, b"%d" % (number + 1), 0)
    return number


def _is_free(descriptor: int) -> bool:
    # A shared lock, so that two readers that look at the same moment do not take each other for the owner.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _inode_of(path: Path) -> int | None:
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None


def _read(descriptor: int, status: os.stat_result, before: LiveFile | None) -> LiveFile:
    if status.st_size > LARGEST:
        raise ValueError(f"the file has {status.st_size} bytes, more than {LARGEST}")
    if before is not None and (before.inode, before.modified, len(before.data)) == (
        status.st_ino,
        status.st_mtime_ns,
        status.st_size,
    ):
        return before
    return LiveFile(status.st_ino, status.st_mtime_ns, os.read(descriptor, LARGEST))
