"""Up when a command ends with status 0 in time. It gets the address that is checked as CHECK_HOST and CHECK_PORT.

The command is the leader of a process group, which is ended by SIGKILL when the check is over, for whatever reason:
nothing that it has started in the background stays. It is collected by its pidfd, so that no other part of the program
(a child watcher, the reaper of orphans) has to know of it, and its pid cannot be another process's when it is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.settings.nerve import ExecCheck

_KEPT = 4096  # bytes of the end of the output
_LONGEST_LINE = 200  # characters of it that are shown
_BLOCK = 65536
_END = 0.9  # seconds for a killed command to be gone: more only while the system cannot end it


def build(settings: ExecCheck, target: Address) -> Check:
    """The check; the environment is that of the program."""
    given = settings.command
    words = ("/bin/sh", "-c", given) if isinstance(given, str) else given

    async def check(target: Address) -> None:
        await run(words, {"CHECK_HOST": target.host, "CHECK_PORT": str(target.port)}, settings.timeout)

    return check


async def run(words: Sequence[str], variables: Mapping[str, str], patience: float) -> None:
    """Runs the command, and ends it after `patience` seconds; raises Unhealthy, OSError when it cannot start."""
    command = _Command(words, {**os.environ, **variables})
    try:
        async with asyncio.timeout(patience):
            await command.ended.wait()
    except TimeoutError:
        raise Unhealthy(f"the command has not ended within {patience:g} s{command.said()}") from None
    finally:
        await command.end()
    if (failure := command.failure) is not None:
        raise Unhealthy(f"{failure}{command.said()}")


class _Command:
    """A command that runs, with its output; `ended` is set when it has ended and is not collected yet."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.ended = asyncio.Event()
        self.failure: str | None = None
        self._output = bytearray()
        self._loop = asyncio.get_running_loop()
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._kill()
            self._collect()
            raise
        self._loop.add_reader(self._pidfd, self._has_ended)
        self._loop.add_reader(self._pipe, self._read)

    def said(self) -> str:
        """`: ` and the last line of the output, or nothing."""
        lines = self._output.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in last)
        return f": {shown if len(shown) <= _LONGEST_LINE else shown[: _LONGEST_LINE - 1] + '…'}" if shown else ""

    async def end(self) -> None:
        """Kills what is left of the group, collects the command and takes the rest of its output."""
        try:
            self._kill()
            if not self.ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_END):
                        await self.ended.wait()
        finally:
            self._loop.remove_reader(self._pidfd)
            self._loop.remove_reader(self._pipe)
            os.close(self._pidfd)
            self._read()
            self._collect()

    def _has_ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.failure = _failure(self._pidfd)
        self.ended.set()

    def _read(self) -> None:
        # One block each time: whatever has left the group may still be writing.
        try:
            block = os.read(self._pipe, _BLOCK)
        except BlockingIOError:
            return
        if not block:
            self._loop.remove_reader(self._pipe)
        self._output += block
        del self._output[:-_KEPT]

    def _kill(self) -> None:
        # PermissionError: all of the group run as another user.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _collect(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.poll()


def _failure(pidfd: int) -> str | None:
    """What was wrong about the end of a process, None for status 0; it stays to be collected."""
    try:
        end = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        end = None
    if end is None:
        return "the command has ended, and its status is lost"
    if end.si_code == os.CLD_EXITED:
        return f"the command ended with status {end.si_status}" if end.si_status else None
    return f"the command was ended by {_name(end.si_status)}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
