"""The installed commands as real processes, with their output in a file, and waiting for what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path


class Daemon:
    """A running `dockstack nerve` or `dockstack synapse`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")

    def terminate(self, limit: float = 8.0) -> float:
        """Sends SIGTERM and returns the seconds until it had ended, with status 0."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(limit) == 0, self.output
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(5)


@contextlib.contextmanager
def dockstack(log: Path, *arguments: str, **environment: str) -> Iterator[Daemon]:
    """Runs `dockstack ARGUMENTS` until the block ends; then SIGTERM, and SIGKILL if that is not heard."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dockstack", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        yield Daemon(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def until(what: str, condition: Callable[[], bool], limit: float, daemon: Daemon | None = None) -> float:
    """Seconds until the condition held; fails with the daemon's output when it did not within `limit` seconds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > limit:
            raise AssertionError(f"{what} did not happen within {limit} s\n{daemon.output if daemon else ''}")
        time.sleep(0.005)
    return time.monotonic() - began


def processes(holding: str) -> list[int]:
    """Ids of the processes whose command line holds this text, this one apart."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if holding in (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                    found.append(int(entry.name))
    return found
