"""`dockstack demo` as a user runs it: it works over and over and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.e2e.programs import processes, until

FOR_OTHERS = dict.fromkeys(("NERVE_CONFIG", "NERVE_CHECK_CONFIG", "SYNAPSE_CONFIG"), "/of/another/daemon")


def demo(scratch: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dockstack", "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=(scratch / "out").open("w"),
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1", **FOR_OTHERS},
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def scratch() -> Path:
    """A short path: a Unix socket's has a limit."""
    return Path(tempfile.mkdtemp(prefix="dsd-"))


def nothing_left(scratch: Path) -> bool:
    return not processes(str(scratch)) and not list(scratch.glob("dockstack-demo-*"))


def test_it_ends_well_and_leaves_nothing(scratch: Path) -> None:
    running = demo(scratch)
    assert running.wait(60) == 0, (scratch / "out").read_text()
    shown = (scratch / "out").read_text()
    assert "| failed requests" in shown
    assert next(line for line in shown.splitlines() if "| failed requests" in line).split()[-2] == "0"
    assert nothing_left(scratch)


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(scratch: Path, with_signal: signal.Signals) -> None:
    running = demo(scratch)
    until("the load", lambda: "a steady load" in (scratch / "out").read_text(), 30)
    running.send_signal(with_signal)
    assert running.wait(20) == 130, (scratch / "out").read_text()
    until("the end of all processes", lambda: nothing_left(scratch), 30)


def test_a_killed_demo_takes_its_processes_along_and_the_next_one_tidies_up(scratch: Path) -> None:
    killed = demo(scratch)
    until("the load", lambda: "a steady load" in (scratch / "out").read_text(), 30)
    killed.kill()
    killed.wait(5)
    until("the end of all processes", lambda: not processes(str(scratch)), 30)
    assert demo(scratch).wait(60) == 0, (scratch / "out").read_text()
    assert nothing_left(scratch)


def test_a_temporary_directory_with_too_long_a_path_is_told_at_once(scratch: Path) -> None:
    long = scratch / ("x" * 80)
    long.mkdir()
    assert demo(long).wait(20) == 1
    assert "try TMPDIR=/tmp" in (long / "out").read_text()
    assert nothing_left(long)
