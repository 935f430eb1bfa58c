"""The process itself: its directories, its lock, its signals, its limits, and the orphans it inherits as PID 1."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from dockstack.errors import ConfigurationError, DockStackError, Problem

_LONGEST_SOCKET = 97  # bytes; HAProxy refuses more
_PEEK = 1.0  # seconds between two looks for orphans
_GRACE = 0.2  # seconds that the owner of an ended child has to collect it


class AlreadyRunning(DockStackError):
    """Another daemon of the same role owns the run directory."""


def default_run_dir(uid: int, env: Mapping[str, str]) -> Path:
    """Where sockets, locks and generated files go: gone after a reboot, not shared with other users."""
    if uid == 0:
        return Path("/run/dockstack")
    if runtime := env.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "dockstack"
    return Path(f"/tmp/dockstack-{uid}")


def default_state_dir(uid: int, env: Mapping[str, str]) -> Path:
    """Where the saved snapshot, the ids and the state go: kept over a reboot."""
    if uid == 0:
        return Path("/var/lib/dockstack")
    state = env.get("XDG_STATE_HOME") or os.path.join(env.get("HOME", "/"), ".local", "state")
    return Path(state) / "dockstack"


def socket_in(run_dir: Path, name: str) -> Path:
    """The path of a Unix socket in the run directory; raises ConfigurationError when it is longer than can be bound."""
    path = run_dir / name
    size = len(os.fsencode(path))
    if size > _LONGEST_SOCKET:
        raise ConfigurationError(
            Problem(
                str(path),
                f"a Unix socket's path has at most {_LONGEST_SOCKET} bytes, this has {size}; "
                "give a shorter directory with --run-dir",
            )
        )
    return path


def make_private(directory: Path, option: str) -> None:
    """Makes a directory that this user alone can write to, or takes the one that is there.

    Raises ConfigurationError, naming the option that chooses another, when it cannot be made, cannot be written to,
    or belongs to a user who could replace what is in it.
    """
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        owner = directory.stat().st_uid
    except OSError as error:
        raise ConfigurationError(
            Problem(str(directory), f"cannot be made: {error.strerror}; choose another directory with {option}")
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(
            Problem(str(directory), f"this user may not write there; choose another directory with {option}")
        )
    if os.geteuid() not in (0, owner) and owner != 0:
        raise ConfigurationError(
            Problem(str(directory), f"belongs to user {owner}; choose a directory of your own with {option}")
        )


@contextmanager
def locked(run_dir: Path, role: str) -> Iterator[None]:
    """Owns RUN_DIR/ROLE.lock while the context is open; raises AlreadyRunning when another process does.

    The file holds its owner's pid and stays when the lock is released: removing it would let two owners in.
    """
    path = run_dir / f"{role}.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunning(
                f"{path}: a dockstack {role} (pid {owner}) runs in this directory already; "
                "stop it, or choose another directory with --run-dir"
            ) from None
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise _unusable(path, error) from error
        yield
    finally:
        os.close(handle)


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(Problem(str(path), f"{error.strerror}; choose another directory with --run-dir"))


@asynccontextmanager
async def terminated(hangup: Callable[[], None] | None = None) -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets; SIGHUP calls `hangup`, and is ignored without one.

    While the context is open these signals do nothing else. Outside it they end the process as usual.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    handlers = {signal.SIGTERM: stop.set, signal.SIGINT: stop.set, signal.SIGHUP: hangup or _ignore}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield stop
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _ignore() -> None:
    return


def hold_standard_streams() -> None:
    """Opens the standard descriptors that were closed when we were started, so that nothing else gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def raise_file_limit() -> int:
    """Raises the soft limit of open files to the hard one; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):  # some kernels report a hard limit above what they grant
            return soft
    return hard


async def reap_orphans() -> None:
    """Collects ended children that nobody here waits for, for ever. For PID 1, which inherits every orphan.

    A child of our own is collected by its owner within milliseconds of its end (libuv on SIGCHLD, or a thread in
    waitpid). So the oldest ended child is looked at without collecting it, and only one that is still there after the
    grace is an orphan.
    """
    while True:
        await asyncio.sleep(_PEEK)
        while (ended := _ended_child()) is not None:
            await asyncio.sleep(_GRACE)
            if _ended_child() == ended:
                _collect(ended)


def _ended_child() -> int | None:
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return ended.si_pid if ended is not None else None


def _collect(child: int) -> None:
    try:
        os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        return  # its owner was slow, not absent
