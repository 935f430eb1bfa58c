"""Has HAProxy, or the user's command, look at a file before it is loaded; returns HAProxy's own lines."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_MOST = 1 << 20
"""Bytes of output that are kept."""

_LONGEST = 2000
"""Characters of a line that are kept: HAProxy repeats what it does not like, and that may be 16 KB long."""

_NOT_RUN = (126, 127)
"""Exit statuses of a shell for a command that may not be run, or is not there."""

_PID = re.compile(r"(?<=^\[ALERT\])\s+\(\d+\) :")
"""The process id in an alert: without it the same fault makes the same words each time."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of it: accepted or not, the lines that were said, and who said them.

    `sure`: the same configuration is refused the next time, too, as far as anybody knows.
    """

    accepted: bool
    lines: tuple[str, ...] = ()
    by: str = "HAProxy"
    sure: bool = True

    @property
    def alerts(self) -> tuple[str, ...]:
        """The lines that say why, without notices; all lines when none is marked as an alert."""
        alerts = tuple(line for line in self.lines if "[ALERT]" in line)
        return alerts or self.lines


async def check_file(binary: Path, file: Path, limit: float) -> Checked:
    """`haproxy -c -f FILE`. A check that cannot be run or is not done after `limit` seconds counts as refused."""
    return await _run((str(binary), "-c", "-f", str(file)), limit)


async def shell(command: str, limit: float, missing: str, *, begins: bool = False) -> Checked:
    """A command of the user's, by /bin/sh; exit status 0 within `limit` seconds is a success.

    `missing` is said as well when the shell does not find the command, or may not run it. One that is not done in time
    is killed, with all that it has begun: but not where what it `begins` is its purpose.
    """
    return await _run(("/bin/sh", "-c", command), limit, missing, alone=begins)


async def _run(arguments: tuple[str, ...], limit: float, missing: str = "", *, alone: bool = False) -> Checked:
    # A file and no pipe: a daemon that the command leaves behind would hold the pipe open.
    with tempfile.TemporaryFile() as said:
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        except OSError as error:
            return Checked(False, (f"{arguments[0]} cannot be run: {error.strerror}",))
        try:
            async with asyncio.timeout(limit):
                status = await process.wait()
        except TimeoutError:
            return Checked(False, (*_lines(said), f"{' '.join(arguments)} was not done after {limit:g} s"))
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):  # all of them run as another user
                    (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
        lines = _lines(said)
        return Checked(status == 0, (*lines, missing) if missing and status in _NOT_RUN else lines)


def _lines(said: IO[bytes]) -> tuple[str, ...]:
    said.seek(0)
    lines = said.read(_MOST).decode(errors="replace").splitlines()
    return tuple(_PID.sub("", line)[:_LONGEST] for line in lines if line.strip())
