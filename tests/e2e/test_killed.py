"""SIGKILL of synapse under load, and its next start: no request fails, and one HAProxy is there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from dockstack.demo.load import Load
from tests.e2e.programs import Daemon, dockstack, processes, until
from tests.servers.origin import Origin
from tests.servers.ports import free_port
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import eventually

ROUNDS = 3


def is_ready(run_dir: Path) -> bool:
    asked = [sys.executable, "-m", "dockstack", "ready", "--run-dir", str(run_dir)]
    return subprocess.run(asked, check=False, capture_output=True, timeout=120).returncode == 0


def masters(run_dir: Path) -> int:
    """HAProxy masters of this run directory: a worker is a child of one and has the same command line."""
    ours = processes(f"{run_dir}/haproxy.cfg ")  # with the space: a check of `haproxy.cfg.tmp` is none
    parents = {}
    for pid in ours:
        with suppress(OSError):  # it has ended meanwhile
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return sum(1 for parent in parents.values() if parent not in ours)


def reached(load: Load, requests: int) -> bool:
    return load.requests >= requests


async def test_a_killed_synapse_costs_no_request_and_leaves_one_haproxy(
    zookeeper: ZooKeeperServer, tmp_path: Path
) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="dsk-"))  # a Unix socket's path has a limit
    front, url = free_port(), zookeeper.url("killed")
    run_dir = scratch / "run"
    where = ["--run-dir", str(run_dir), "--state-dir", str(scratch / "state")]
    command = ["synapse", "-d", url, "-s", "web:http:/web", "-r", f"web:.haproxy.port={front}"]
    command += ["--bind", "127.0.0.1", "--stats", "off", *where]

    def synapse(stack: ExitStack) -> Daemon:
        daemon = stack.enter_context(dockstack(scratch / "synapse.log", *command))
        until("readiness", lambda: is_ready(run_dir), 30, daemon)
        return daemon

    def nerve(stack: ExitStack, name: str) -> None:
        origin = stack.enter_context(Origin(tmp_path, name))
        at = ["--run-dir", str(scratch / name), "--state-dir", str(scratch / f"{name}-state"), "-i", name]
        spec = ["-d", url, "-s", f"web:http:{origin.port}:/web", "-r", "web:.check_interval=0.2"]
        daemon = stack.enter_context(dockstack(scratch / f"{name}.log", "nerve", *spec, *at, SERVICE_HOST="127.0.0.1"))
        until("the registration", lambda: is_ready(scratch / name), 30, daemon)

    with ExitStack() as stack:
        for name in ("one", "two"):
            await asyncio.to_thread(nerve, stack, name)
        daemon = await asyncio.to_thread(synapse, stack)
        async with Load(f"http://127.0.0.1:{front}/") as load:
            for _ in range(ROUNDS):
                daemon.kill()
                enough = load.requests + 100
                await asyncio.to_thread(until, "requests without synapse", partial(reached, load, enough), 10)
                daemon = await asyncio.to_thread(synapse, stack)
                # A master executes itself after a start, and has no command line for a moment.
                await eventually(lambda: masters(run_dir) == 1, "one HAProxy")
            await asyncio.to_thread(nerve, stack, "three")
            await asyncio.to_thread(until, "an answer from the third", lambda: load.answers["three"] > 0, 10, daemon)
        assert load.failures == []
        assert {"one", "two"} <= load.answers.keys()
        assert daemon.terminate() < 5
        assert masters(run_dir) == 0
        print(f"{ROUNDS} kills, {load.requests} requests, {len(load.failures)} failed")
