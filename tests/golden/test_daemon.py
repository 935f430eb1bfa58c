"""The recorded cases against the real synapse on a real ZooKeeper: what it writes after each step, what it refuses.

A case is a folder: `synapse.yaml` (@RUN@ is its scratch directory, @ZK@ the ZooKeeper), `zk.json` (znodes first, then
steps), `haproxy.cfg` and `haproxy.stepN.cfg` (the file then), `file_output*/`; or `error.txt`: must be refused.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from tests.e2e.programs import Daemon, dockstack
from tests.golden.compare import differences, ids
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import wait_until

CASES = Path(__file__).parent
LIMIT = 30.0
Ids = dict[str, dict[str, int | None]]
RUN = sorted(path.parent.name for path in CASES.glob("*/synapse.yaml"))


@pytest.fixture(scope="module")
def writer(zookeeper: ZooKeeperServer) -> Iterator[KazooClient]:
    """Who writes the znodes."""
    client = KazooClient(hosts=zookeeper.hosts, timeout=30)
    client.start(15)
    yield client
    client.stop()
    client.close()


def put(client: KazooClient, path: str, data: str) -> None:
    if client.exists(path):
        client.set(path, data.encode())
    else:
        client.create(path, data.encode(), makepath=True)


def text_of(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def instances(text: str | None) -> list[str]:
    """The instances in a file of the second output, without nulls and order."""
    found = [{key: value for key, value in one.items() if value is not None} for one in json.loads(text or "[]")]
    return sorted(json.dumps(one, sort_keys=True) for one in found)


@dataclass(frozen=True, slots=True)
class Scene:
    """A case on the stage: where it was recorded, where it runs, and the ZooKeeper it is told of."""

    case: Path
    run: Path
    hosts: str

    @property
    def exact(self) -> bool:
        """Whether the order of the servers counts."""
        texts = (self.case / "synapse.yaml").read_text() + (self.case / "zk.json").read_text().replace("\\", "")
        return re.search('backend_order"?: *"?(asc|desc)', texts) is not None

    def text(self, name: str) -> str:
        """The case's file with its places filled in; nothing where there is none."""
        found = text_of(self.case / name) or ""
        return found.replace("@ZK@", self.hosts).replace("@RUN@", str(self.run))

    def set_up(self) -> None:
        for path in (*self.case.glob("synapse.yaml"), *self.case.glob("services/*"), *self.case.glob("state.json")):
            name = path.relative_to(self.case)
            (self.run / name).parent.mkdir(parents=True, exist_ok=True)
            (self.run / name).write_text(self.text(str(name)))

    def becomes(self, label: str, limit: float, synapse: Daemon) -> None:
        """The files get, by meaning, what was recorded for this step."""

        def gaps() -> list[str]:
            assert synapse.process.poll() is None, synapse.output
            got = text_of(self.run / "haproxy.cfg")
            return ["no file"] if got is None else differences(self.text(f"haproxy{label}.cfg"), got, self.exact)

        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not gaps(), "haproxy.cfg", limit, 0.05)
        assert gaps() == [], label
        for path in self.case.glob(f"file_output{label}/*.json"):
            end = time.monotonic() + limit
            while (got := instances(text_of(self.run / "file_output" / path.name))) != instances(path.read_text()):
                assert time.monotonic() < end, f"{path}: {got}"
                time.sleep(0.05)

    def keeps_ids(self, before: Ids) -> Ids:
        """The ids now; a server that stayed has the one it had, and a recorded one is never another."""
        now = ids((self.run / "haproxy.cfg").read_text())
        fixed: Ids = json.loads(text_of(self.case / "fixed_ids.json") or "{}")
        for section, servers in now.items():
            for server, number in servers.items():
                for known in (before, fixed):
                    assert known.get(section, {}).get(server, number) == number, f"{section}/{server}"
        return now


@pytest.mark.parametrize("name", RUN)
def test_synapse_writes_what_was_recorded(
    name: str, zookeeper: ZooKeeperServer, writer: KazooClient, tmp_path: Path
) -> None:
    scene = Scene(CASES / name, tmp_path / "case", zookeeper.hosts)
    recorded: dict[str, Any] = json.loads((scene.case / "zk.json").read_text())
    for one in recorded["znodes"]:
        put(writer, one["path"], one["data"])
    scene.set_up()
    arguments = ("-c", str(scene.run / "synapse.yaml"), "--run-dir", str(tmp_path / "run"))
    with dockstack(tmp_path / "log", "synapse", *arguments, "--state-dir", str(tmp_path / "state")) as synapse:
        if refusal := text_of(scene.case / "error.txt"):
            is_refused(synapse, refusal)
            assert not (scene.run / "haproxy.cfg").exists()
            return
        before: Ids = {}
        last = ""
        for number, step in enumerate([{}, *recorded.get("steps", [])]):
            for one in step.get("put", []):
                put(writer, one["path"], one["data"])
            for path in step.get("delete", []):
                writer.delete(path)
            label = f".step{number}" if number else ""
            if scene.text(f"haproxy{label}.cfg") == last:
                # Nothing is to happen, so there is nothing to wait for but a change that must not come.
                time.sleep(0.5)
            scene.becomes(label, LIMIT + float(step.get("wait", 0)), synapse)
            before = scene.keeps_ids(before)
            last = scene.text(f"haproxy{label}.cfg")
        synapse.terminate()


def is_refused(synapse: Daemon, expected: str) -> None:
    assert synapse.process.wait(LIMIT) == 2
    assert "Traceback" not in synapse.output
    for line in expected.splitlines():
        if line.startswith("must contain:"):
            for word in line.split()[2:]:
                assert word.lower() in synapse.output.lower()
