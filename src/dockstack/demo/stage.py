"""Where the demo plays: a temporary directory, free loopback ports, and processes that end with it.

Everything that is started is told to stop when the demo ends, also by Ctrl-C; when the demo itself is killed, the
kernel tells its children (PR_SET_PDEATHSIG), and the next demo removes the directory that was left.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from dockstack.errors import ConfigurationError, DockStackError
from dockstack.runtime.process import socket_in

PREFIX = "dockstack-demo-"
_LONGEST_SOCKET = "synapse/haproxy-master.sock"
_PR_SET_PDEATHSIG = 1
_TICK = 0.002
_DECIDES = ("NERVE_CONFIG", "NERVE_INSTANCE_ID", "NERVE_CHECK_CONFIG", "SYNAPSE_CONFIG", "INSTANCE_ID")
"""What a user may have set for daemons of their own: it would change the demo's."""


class Missed(Exception):
    """A step did not happen in time; the text says which."""


class Stage:
    """An async context manager; on leaving it every process has ended and the directory is gone."""

    def __init__(self) -> None:
        self.directory = Path()
        self._lock: int = -1
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Stage:
        """Raises DockStackError when there is no temporary directory, or none whose path is short enough."""
        _remove_leftovers()
        try:
            self.directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        except OSError as error:
            raise DockStackError(f"no temporary directory can be made: {error}; name another with TMPDIR") from None
        try:
            socket_in(self.directory, _LONGEST_SOCKET)
        except ConfigurationError:
            self.directory.rmdir()
            raise DockStackError(f"{self.directory} is too long for Unix sockets; try TMPDIR=/tmp") from None
        self._lock = os.open(self.directory, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Missed):
            self._show_logs()
        for name in reversed(self._processes):
            await self.stop(name)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)

    async def start(self, name: str, *command: str, **environment: str) -> None:
        """Starts a Python module of ours as a process of its own; its output goes to `NAME.log` on the stage."""
        inherited = {key: value for key, value in os.environ.items() if key not in _DECIDES}
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**inherited, **environment},
                preexec_fn=_end_with_parent,
                start_new_session=True,
            )

    async def stop(self, name: str, with_signal: signal.Signals = signal.SIGTERM, limit: float = 8.0) -> float:
        """Ends a process and returns after how many seconds it had ended; one that does not listen is killed."""
        process = self._processes[name]
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(with_signal)
        try:
            async with asyncio.timeout(limit):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        return time.monotonic() - began

    async def until(self, what: str, condition: Callable[[], bool], limit: float) -> float:
        """Seconds until the condition held; raises Missed after `limit`, or when a daemon has ended meanwhile."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > limit:
                raise Missed(f"{what} did not happen within {limit:.0f} s")
            self.check(what)
            await asyncio.sleep(_TICK)
        return time.monotonic() - began

    def check(self, what: str) -> None:
        """Raises Missed for the step `what` when a process has failed meanwhile."""
        for name, process in self._processes.items():
            if process.returncode not in (None, 0, -signal.SIGKILL):
                raise Missed(f"{what} did not happen: {name} ended with status {process.returncode}")

    def _show_logs(self) -> None:
        for log in sorted(self.directory.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-12:]
            if lines:
                print(f"\nthe last lines of {log.name}:", *lines, sep="\n    ", file=sys.stderr)


def free_ports(count: int) -> list[int]:
    """Different loopback ports that nobody listens on now, found by plain binds: HAProxy's own sockets set
    SO_REUSEPORT, with which a port in use would look free."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _remove_leftovers() -> None:
    """Removes the directories of demos that were killed: those of ours that nobody holds a lock on."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(handle).st_uid == os.geteuid():
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)
