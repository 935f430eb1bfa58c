"""A fleet of which one half still runs the old tools: each half reads what the other writes, on the same paths.

The old half is played: its nerve by the znodes that it was recorded to write, its synapse by a reader that does what
its code does (children, get, JSON; a `base64_` name is the data itself) and shares nothing with ours.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from tests.e2e.programs import Daemon, dockstack
from tests.servers.origin import Origin
from tests.servers.ports import free_port
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import wait_until

RECORDED = Path(__file__).parent.parent / "golden" / "nerve"
KEYS = ("name", "host", "port", "id", "weight", "haproxy_server_options", "labels")
THEIRS = "i-0abc.example"
OURS = "i-ours"
LIMIT = 15.0


def old_synapse_reads(client: KazooClient, path: str) -> list[dict[str, Any]]:
    """The instances below a path, as the old synapse has them before it drops doubles."""
    found = []
    try:
        children = client.get_children(path)
    except NoNodeError:
        return []
    for child in children:
        encoded = re.match(r"base64_(\d+)_", child)
        if encoded:
            start = encoded.end()
            data = json.loads(base64.urlsafe_b64decode(child[start : start + int(encoded[1])]))
        else:
            try:
                data = json.loads(client.get(f"{path}/{child}")[0])
            except NoNodeError:
                continue
        number = child.split("_")[-1]
        found.append({**dict.fromkeys(KEYS), **data, "id": int(number) if number.isdigit() else None})
    return found


def same(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> bool:
    """Whether both have found the same. Of several with one host, port and name the old synapse takes that which
    ZooKeeper happens to list first, ours the newest."""
    keys = [(one["host"], one["port"], one["name"]) for one in ours]
    return (
        len(keys) == len(set(keys))
        and set(keys) == {(one["host"], one["port"], one["name"]) for one in theirs}
        and all(one in theirs for one in ours)
    )


@dataclass
class Fleet:
    """Both halves: the directory of ours, the ZooKeeper, and the server that every check of ours finds healthy."""

    home: Path
    client: KazooClient
    hosts: str
    root: str
    port: int

    @property
    def recorded(self) -> dict[str, Any]:
        """The recorded nerve file, on this ZooKeeper, below this root, for our half."""
        text = (RECORDED / "nerve.json").read_text().replace("@ZK@", self.hosts).replace("/bench/interop", self.root)
        found: dict[str, Any] = json.loads(text.replace("29001", str(self.port)).replace("29999", str(free_port())))
        return {**found, "instance_id": OURS}

    @property
    def paths(self) -> dict[str, str]:
        """Where each service is registered."""
        return {name: one["zk_path"].rstrip("/") for name, one in self.recorded["services"].items()}

    def put_theirs(self) -> None:
        """The old nerve registers what it was recorded to register."""
        for node in json.loads((RECORDED / "znodes.json").read_text()):
            path = node["path"].replace("/bench/interop", self.root)
            if node["data_utf8"]:
                self.client.create(path, node["data_utf8"].encode(), makepath=True)

    def remove_theirs(self) -> None:
        for path in set(self.paths.values()):
            for child in self.client.get_children(path) if self.client.exists(path) else ():
                if self.name_in(path, child) == THEIRS:
                    self.client.delete(f"{path}/{child}")

    def name_in(self, path: str, child: str) -> str:
        data = self.client.get(f"{path}/{child}")[0]
        return str(json.loads(data)["name"])

    def write_files(self) -> None:
        (self.home / "nerve.json").write_text(json.dumps(self.recorded))
        services = {
            name: {"discovery": {"method": "zookeeper", "hosts": [self.hosts], "path": path}, "haproxy": {}}
            for name, path in self.paths.items()
        }
        haproxy = {"global": [], "defaults": [], "do_reloads": False, "do_socket": False}
        haproxy["config_file_path"] = str(self.home / "haproxy.cfg")
        output = {"output_directory": str(self.home / "output")}
        whole = {"services": services, "haproxy": haproxy, "file_output": output}
        (self.home / "synapse.json").write_text(json.dumps(whole))

    def run(self, role: str) -> Any:
        places = ("--run-dir", str(self.home / "run"), "--state-dir", str(self.home / "state"))
        return dockstack(self.home / f"{role}.log", role, "-c", str(self.home / f"{role}.json"), *places)

    def ours_reads(self, name: str) -> list[dict[str, Any]]:
        """What our synapse has found, by its JSON file."""
        try:
            found: list[dict[str, Any]] = json.loads((self.home / "output" / f"{name}.json").read_text())
        except FileNotFoundError:
            return []
        return found

    def agree(self, synapse: Daemon, expected: dict[str, set[str]]) -> None:
        """Both readers find the same, and the instances of these names, on every path."""

        def gaps() -> list[str]:
            assert synapse.process.poll() is None, synapse.output
            found = []
            for name, path in self.paths.items():
                theirs, ours = old_synapse_reads(self.client, path), self.ours_reads(name)
                # Where none is left, those of before stay in service: with both tools.
                if {one["name"] for one in theirs} != expected[name] or (theirs and not same(theirs, ours)):
                    found.append(f"{name}: the old reader finds {theirs}, ours {ours}")
            return found

        try:
            wait_until(lambda: not gaps(), "the two agree", LIMIT, 0.05)
        except TimeoutError:
            assert gaps() == []

    def serves(self, expected: set[str], *names: str) -> None:
        """These services have these servers in HAProxy's file, which is written after the JSON files."""
        wanted = dict.fromkeys(names, expected)

        def found() -> dict[str, set[str]]:
            served = self.served()
            return {name: served.get(name, set()) for name in names}

        try:
            wait_until(lambda: found() == wanted, "HAProxy's file has them", LIMIT, 0.05)
        except TimeoutError:
            assert found() == wanted

    def served(self) -> dict[str, set[str]]:
        """By service, the addresses in our HAProxy file."""
        found: dict[str, set[str]] = {}
        for block in (self.home / "haproxy.cfg").read_text().split("\nbackend ")[1:]:
            name, *lines = block.splitlines()
            servers = (line.split() for line in lines if line.strip().startswith("server "))
            found[name] = {f"{words[1].rpartition('_')[0]} {words[2]}" for words in servers}
        return found


@pytest.fixture
def fleet(zookeeper: ZooKeeperServer, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    home = Path(tempfile.mkdtemp(prefix="dsm-"))
    client = KazooClient(hosts=zookeeper.hosts, timeout=30)
    client.start(15)
    with Origin(home, "origin") as origin:
        yield Fleet(home, client, zookeeper.hosts, f"/mixed/{request.node.name}", origin.port)
    client.stop()
    client.close()
    shutil.rmtree(home, ignore_errors=True)


NEVER_THEIRS = {"down", "slash"}
"""`down` is never up, and with a slash at the end of its path the old nerve gets nowhere."""


def both(fleet: Fleet, ours: bool = True, theirs: bool = True) -> dict[str, set[str]]:
    """By service, who is registered."""
    return {
        name: (set() if name == "down" or not ours else {OURS})
        | (set() if name in NEVER_THEIRS or not theirs else {THEIRS})
        for name in fleet.paths
    }


def test_each_half_reads_the_other_while_hosts_are_swapped(fleet: Fleet) -> None:
    fleet.write_files()
    fleet.put_theirs()
    with fleet.run("synapse") as synapse:
        fleet.agree(synapse, both(fleet, ours=False))
        with fleet.run("nerve") as nerve:
            fleet.agree(synapse, both(fleet))
            fleet.serves(
                {f"{THEIRS} 127.0.0.1:29001", f"{OURS} 127.0.0.1:{fleet.port}"}, "tcp_plain", "path_enc", "weight_str"
            )
            # A host goes over to ours, and its old registrations with it; then it goes back.
            fleet.remove_theirs()
            fleet.agree(synapse, both(fleet, theirs=False))
            fleet.put_theirs()
            fleet.agree(synapse, both(fleet))
            nerve.terminate()
        fleet.agree(synapse, both(fleet, ours=False))
        assert synapse.terminate() < 5
        assert "Traceback" not in synapse.output


def test_ours_may_be_there_first(fleet: Fleet) -> None:
    """The numbers of ZooKeeper's sequence are shared: the names of both halves stay apart."""
    fleet.write_files()
    with fleet.run("nerve"), fleet.run("synapse") as synapse:
        fleet.agree(synapse, both(fleet, theirs=False))
        fleet.put_theirs()
        fleet.agree(synapse, both(fleet))
        path = fleet.paths["all"]
        ours, theirs = (
            next(one for one in fleet.client.get_children(path) if one.startswith(x)) for x in (OURS, THEIRS)
        )
        plain = {name: json.loads(fleet.client.get(f"{path}/{name}")[0]) for name in (ours, theirs)}
        assert plain[ours] | {"port": 29001, "name": THEIRS} == plain[theirs]
        assert [*plain[ours]] == [*plain[theirs]]
