"""The process's own affairs: one owner per directory, signals as events, no zombie, no child taken from its owner."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dockstack.errors import ConfigurationError
from dockstack.runtime.process import (
    AlreadyRunning,
    default_run_dir,
    default_state_dir,
    locked,
    make_private,
    socket_in,
    terminated,
)


@pytest.mark.parametrize(
    ("uid", "env", "run", "state"),
    [
        (0, {"XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/root"}, "/run/dockstack", "/var/lib/dockstack"),
        (
            1000,
            {"XDG_RUNTIME_DIR": "/run/user/1000", "XDG_STATE_HOME": "/s", "HOME": "/home/u"},
            "/run/user/1000/dockstack",
            "/s/dockstack",
        ),
        (1000, {"HOME": "/home/u"}, "/tmp/dockstack-1000", "/home/u/.local/state/dockstack"),
    ],
)
def test_where_things_live(uid: int, env: dict[str, str], run: str, state: str) -> None:
    assert str(default_run_dir(uid, env)) == run
    assert str(default_state_dir(uid, env)) == state


def test_a_socket_path_that_cannot_be_bound_is_refused() -> None:
    fits = Path("/" + "d" * 85)
    assert len(str(socket_in(fits, "nerve.sock"))) == 97
    with pytest.raises(ConfigurationError, match=r"at most 97 bytes, this has 98.*--run-dir"):
        socket_in(Path("/" + "d" * 86), "nerve.sock")
    with pytest.raises(ConfigurationError):
        socket_in(Path("/" + "é" * 43), "nerve.sock")


def test_a_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b", "--run-dir")
    make_private(tmp_path / "a" / "b", "--run-dir")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_directory_that_cannot_be_made_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"file/run: cannot be made: .*--run-dir"):
        make_private(tmp_path / "file" / "run", "--run-dir")


def test_one_owner_per_directory_and_role(tmp_path: Path) -> None:
    with locked(tmp_path, "nerve"):
        with pytest.raises(AlreadyRunning, match=rf"nerve \(pid {os.getpid()}\)"), locked(tmp_path, "nerve"):
            pass
        with locked(tmp_path, "synapse"):
            pass
    with locked(tmp_path, "nerve"):
        pass


def test_a_lock_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "nerve.lock").symlink_to("/dev/full")
    with pytest.raises(ConfigurationError, match=r"nerve\.lock: .*--run-dir"), locked(tmp_path, "nerve"):
        pass


async def test_signals_are_an_event_and_a_call() -> None:
    hangup = asyncio.Event()
    async with terminated(hangup.set) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(2):
            await hangup.wait()
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(2):
            await stop.wait()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_a_hangup_nobody_listens_to_does_not_kill() -> None:
    async with terminated() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(2):
            await stop.wait()


def test_the_file_limit_is_raised_to_the_hard_one() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300)); "
        "from dockstack.runtime.process import raise_file_limit; "
        "print(raise_file_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 300:
        pytest.fail("this machine allows fewer than 300 open files")
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["300", "300", "300"]


# A process that, like PID 1, inherits orphans: eight of them end beside eight children of its own.
PID_1 = """
import asyncio, ctypes, os, sys, uvloop
from dockstack.runtime.process import reap_orphans
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER

def zombies():
    found = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()
            except OSError:
                continue
            found += fields[0] == "Z" and int(fields[1]) == os.getpid()
    return found

async def main():
    reaper = asyncio.create_task(reap_orphans())
    async def child(n):
        script = f"(sleep 0.1; exit 9) & exec sh -c 'sleep 0.{n:02}; exit {n}'"
        process = await asyncio.create_subprocess_exec("sh", "-c", script)
        return await process.wait()
    codes = await asyncio.gather(*(child(n) for n in range(8)))
    assert codes == list(range(8)), codes
    most = zombies()
    for _ in range(200):
        most = max(most, zombies())
        if most and not zombies():
            break
        await asyncio.sleep(0.05)
    print(zombies(), most)

(uvloop.run if sys.argv[1] == "uvloop" else asyncio.run)(main())
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_orphans_are_collected_and_children_left_to_their_owner(loop: str) -> None:
    done = subprocess.run([sys.executable, "-c", PID_1, loop], check=True, capture_output=True, text=True, timeout=120)
    left, most = map(int, done.stdout.split())
    assert (left, most > 0) == (0, True), "no orphan was ever there: the test proves nothing"


def test_standard_descriptors_that_were_closed_are_held() -> None:
    code = (
        "import os; from dockstack.runtime.process import hold_standard_streams; os.close(1); os.close(2); "
        "hold_standard_streams(); os.write(1, b'x'); os._exit(os.open(os.devnull, os.O_RDONLY))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=20).returncode == 3
