"""HAProxy as a process of ours: started so that it outlives a killed synapse, found again, watched, and ended.

It runs in the foreground in master-worker mode, also when its file says `daemon`, and in a session of its own. When the
master ends, for whatever reason, its workers end too (measured on 2.6 and 2.8: within 5 ms); one that does not, as it
is frozen, is found by its command line and killed: two HAProxys on one address would share its connections.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dockstack.errors import DockStackError, HaproxyUnavailable
from dockstack.events import Emit, Note, Warn
from dockstack.synapse.haproxy import master

_ANSWER = 10.0
"""Seconds for a found master to answer: on 2.6 it is deaf while it loads a large file."""

_DEAF = 1.0
"""Seconds that a master is given to come out of a start or a reload before it is ended."""

_TERM = 1.0
"""Seconds between SIGTERM and SIGKILL."""

_EXECUTIONS = 20
"""Looks, 10 ms apart, at the command line of a process that may be executing itself."""

_KILL = 1.0
"""Seconds that the kernel has to take a killed process away."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where our HAProxy lives: its file, its master's socket, and the socket of its Runtime API."""

    config: Path
    master_socket: Path
    stats_socket: Path


class Process:
    """A process by its pidfd: no other process can be meant by mistake. `close` it, or use it as a context."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        """Raises ProcessLookupError when there is no such process."""
        self.pid = pid
        self._child = child
        self._fd = os.pidfd_open(pid)
        self._gone = False

    async def gone(self) -> None:
        """Returns when the process has ended, and collects it when it is our child."""
        if self._gone:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        watched = os.dup(self._fd)  # each waiter has a descriptor of its own: a loop knows one reader per descriptor
        try:
            loop.add_reader(watched, ended.set)
            await ended.wait()
        finally:
            loop.remove_reader(watched)
            os.close(watched)
        self._gone = True
        if self._child is not None:
            self._child.wait()

    async def gone_within(self, limit: float) -> bool:
        """Whether it ends within `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                await self.gone()
        except TimeoutError:
            return False
        return True

    @property
    def status(self) -> str:
        """How it ended, as far as it can be known: another's child tells us nothing."""
        code = None if self._child is None else self._child.returncode
        if code is None:
            return "ended"
        return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens when the process is gone."""
        if not self._gone:
            try:
                signal.pidfd_send_signal(self._fd, number)
            except ProcessLookupError:
                return

    def close(self) -> None:
        """Gives the pidfd back; the process is left alone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def start(binary: Path, place: Place) -> Process:
    """A new HAProxy on this place; it has only just begun to load its file. Raises HaproxyUnavailable."""
    for socket in (place.master_socket, place.stats_socket):
        socket.unlink(missing_ok=True)
    command = (str(binary), "-W", "-db", "-S", f"{place.master_socket},level,admin,mode,600", "-f", str(place.config))
    with ExitStack() as given:
        said, told = (_without_waiting(number, given) for number in (1, 2))
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=told, start_new_session=True
            )
        except OSError as error:
            raise HaproxyUnavailable(f"{binary} cannot be started: {error.strerror}") from None
    return Process(child.pid, child)


def _without_waiting(number: int, given: ExitStack) -> int | None:
    """Our standard output or error as HAProxy is to have it: a pipe is opened anew, so that a full one loses lines.

    HAProxy writes there in the middle of its work: with a pipe that nobody reads every connection would stand still.
    """
    try:
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            return None
        anew = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    given.callback(os.close, anew)
    return anew


async def adopt(place: Place, emit: Emit) -> Process | None:
    """The HAProxy that runs on this place already with our file, or None; any other one there is ended.

    Raises DockStackError when one answers that this process can neither see nor signal.
    """
    answering = await _answering(place, limit=_ANSWER if ours(place.master_socket) else 0.2)
    files = () if answering is None else await _files_of(answering)
    running = ours(place.master_socket)
    if answering is not None and answering not in running and await _answering(place, limit=0.2) == answering:
        running = ours(place.master_socket)
        if answering not in running:  # and it has not ended meanwhile
            raise DockStackError(
                f"a HAProxy with the process id {answering} answers on {place.master_socket} and cannot be seen from "
                "here (another PID namespace?); end it, or choose another directory with --run-dir"
            )
    adopted = None
    if answering is not None and files == (str(place.config),):
        try:
            adopted = Process(answering)
        except ProcessLookupError:
            adopted = None
    family = frozenset() if adopted is None else _family(adopted.pid, running)
    strangers = [pid for pid in running if pid not in family]
    if strangers:
        emit(Warn(f"ending the HAProxy on {place.master_socket} that is not to be adopted: {strangers}"))
        await end(strangers)
    if adopted is not None:
        emit(Note(f"adopted the running HAProxy (master {adopted.pid})"))
    return adopted


async def _answering(place: Place, limit: float) -> int | None:
    if not place.master_socket.exists():
        return None
    try:
        return (await master.processes(place.master_socket, limit)).master
    except HaproxyUnavailable:
        return None


async def stop(process: Process, place: Place, drain: float) -> None:
    """Ends HAProxy: no new connections at once, `drain` seconds for the open ones, then the rest is cut.

    Takes `drain` seconds and well under one more as a rule, four at most. A master that still executes itself, after
    a start or a reload, loses the signal (seen on 2.6 and 2.8), so it must answer first.
    """
    await _answering(place, limit=_DEAF)
    process.signal(signal.SIGUSR1)
    if not await process.gone_within(drain):
        process.signal(signal.SIGTERM)
        if not await process.gone_within(_TERM):
            process.signal(signal.SIGKILL)
            await process.gone_within(_KILL)
    await clear(place)


async def clear(place: Place) -> None:
    """Makes sure that no process of an ended HAProxy is left on this place, and removes its sockets."""
    left = ours(place.master_socket)
    if left:
        await end(left, gently=False)
    for socket in (place.master_socket, place.stats_socket):
        socket.unlink(missing_ok=True)


async def end(pids: Sequence[int], gently: bool = True) -> None:
    """Ends these processes: SIGTERM (SIGUSR1 would keep their connections for a day), then SIGKILL."""
    found = []
    for pid in pids:
        try:
            found.append(Process(pid))
        except ProcessLookupError:
            continue
    try:
        if gently:
            for process in found:
                process.signal(signal.SIGTERM)
        await asyncio.gather(*(process.gone_within(_TERM if gently else 0.3) for process in found))
        for process in found:
            process.signal(signal.SIGKILL)
        await asyncio.gather(*(process.gone_within(_KILL) for process in found))
    finally:
        for process in found:
            process.close()


def ours(master_socket: Path) -> tuple[int, ...]:
    """Process ids of all HAProxys, masters and workers, that were started for this master socket, zombies excepted."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            words = _command_line(int(entry.name))
            if any(flag == "-S" and value.split(",")[0] == str(master_socket) for flag, value in _pairs(words)):
                found.append(int(entry.name))
    return tuple(sorted(found))


def files_of(pid: int) -> tuple[str, ...]:
    """The files that a HAProxy was told to load."""
    return tuple(value for flag, value in _pairs(_command_line(pid)) if flag == "-f")


async def _files_of(pid: int) -> tuple[str, ...]:
    """The files, looked for again while there are none: a process that executes itself has no command line then."""
    for _ in range(_EXECUTIONS):
        if found := files_of(pid):
            return found
        await asyncio.sleep(0.01)
    return ()


def _family(master_pid: int, pids: Sequence[int]) -> frozenset[int]:
    return frozenset(pid for pid in pids if pid == master_pid or _parent(pid) == master_pid)


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    return itertools.pairwise(words)


def _command_line(pid: int) -> tuple[str, ...]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return tuple(word.decode(errors="replace") for word in file.read().split(b"\0"))
    except OSError:
        return ()


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0
