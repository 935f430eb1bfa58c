"""The nerve daemon as a program: start, readiness, reload, and its end, on a directory and on a real ZooKeeper."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from dockstack.admin.client import NoAnswer, ask
from dockstack.admin.report import Report
from tests.conftest import StartZooKeeper
from tests.e2e.programs import Daemon, dockstack, until
from tests.servers.origin import Origin
from tests.servers.ports import free_port
from tests.servers.statsd import Receiver
from tests.servers.zookeeper import ZooKeeperServer

GOLDEN = Path(__file__).parent.parent / "golden" / "nerve"


class Nerve:
    """One daemon with its file, its directories, and a directory as registry."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="dsn-"))  # a Unix socket's path has a limit
        self.registry = self.home / "registry"
        self.file = self.home / "nerve.json"
        self.daemon: Daemon

    def write(self, services: Mapping[str, Mapping[str, Any]], instance_id: str = "i-1", **top: Any) -> None:
        common = {"host": "127.0.0.1", "port": 80, "check_interval": 0.05, "reporter_type": "file"}
        whole = {
            name: {**common, "file_directory": str(self.registry), "file_path": f"/nerve/{name}", **keys}
            for name, keys in services.items()
        }
        self.file.write_text(json.dumps({"instance_id": instance_id, "services": whole, **top}))

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Daemon]:
        """The daemon, when it answers."""
        paths = ("--run-dir", str(self.home / "run"), "--state-dir", str(self.home / "state"))
        with dockstack(self.home / "log", "nerve", "-c", str(self.file), *paths, *arguments) as daemon:
            self.daemon = daemon
            until("an answer", lambda: self.asks("health") is not None, 30, daemon)
            yield daemon

    def asks(self, question: Any) -> Report | None:
        try:
            return ask(self.home / "run" / "nerve.sock", question)
        except NoAnswer:
            return None

    def is_ready(self) -> bool:
        report = self.asks("ready")
        return report is not None and report.ok

    def until_ready(self) -> float:
        return until("readiness", self.is_ready, 15, self.daemon)

    def nodes(self, name: str) -> list[dict[str, Any]]:
        """What is in the service's directory."""
        found = []
        for file in sorted((self.registry / "nerve" / name).glob("i-*")):
            try:
                found.append(json.loads(file.read_bytes()))
            except FileNotFoundError:
                continue
        return found

    def hang_up(self) -> None:
        self.daemon.process.send_signal(signal.SIGHUP)


@pytest.fixture
def nerve() -> Iterator[Nerve]:
    running = Nerve()
    yield running
    shutil.rmtree(running.home, ignore_errors=True)


@pytest.fixture
def backend() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener


def checked(listener: socket.socket) -> dict[str, Any]:
    return {"port": listener.getsockname()[1], "checks": [{"type": "tcp", "timeout": 1}]}


def test_it_registers_what_is_healthy_and_withdraws_within_a_second(nerve: Nerve, backend: socket.socket) -> None:
    nerve.write({"web": checked(backend), "dead": {"port": free_port(), "checks": [{"type": "tcp"}]}, "plain": {}})
    with nerve.running() as daemon:
        nerve.until_ready()
        assert nerve.nodes("web") == [{"host": "127.0.0.1", "port": backend.getsockname()[1], "name": "i-1"}]
        assert len(nerve.nodes("plain")) == 1
        assert nerve.nodes("dead") == []
        health = nerve.asks("health")
        assert health is not None
        assert health.ok
        assert "web: up, registered as /nerve/web/i-1_0000000000" in health.lines
        assert any(line.startswith("dead: down, not registered, dead tcp-127.0.0.1:") for line in health.lines)
        assert daemon.terminate() < 1
        assert [nerve.nodes(name) for name in ("web", "plain")] == [[], []]
        assert not (nerve.home / "run" / "nerve.sock").exists()
        assert "Traceback" not in daemon.output


def test_the_drain_is_after_the_withdrawal(nerve: Nerve) -> None:
    nerve.write({"plain": {}})
    with nerve.running("--drain", "4") as daemon:
        nerve.until_ready()
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        until("the withdrawal", lambda: not nerve.nodes("plain"), 4, daemon)
        assert daemon.process.wait(30) == 0
        assert time.monotonic() - began > 4


def test_a_hang_up_changes_adds_and_removes(nerve: Nerve, backend: socket.socket) -> None:
    nerve.write({"web": checked(backend), "old": {}, "same": {}})
    with nerve.running() as daemon:
        nerve.until_ready()
        (same,) = (nerve.registry / "nerve" / "same").glob("i-*")
        before, gaps, over = same.stat(), 0, threading.Event()

        def look() -> None:
            nonlocal gaps
            while not over.is_set():
                gaps += not nerve.nodes("web")
                time.sleep(0.0005)

        looking = threading.Thread(target=look)
        looking.start()
        nerve.write({"web": {**checked(backend), "weight": 9}, "new": {}, "same": {}})
        nerve.hang_up()
        until("the new weight", lambda: [node.get("weight") for node in nerve.nodes("web")] == [9], 30, daemon)
        until("the new service", lambda: len(nerve.nodes("new")) == 1, 30, daemon)
        until("the old service's end", lambda: not nerve.nodes("old"), 30, daemon)
        over.set()
        looking.join()
        assert gaps == 0
        assert (same.stat().st_ino, same.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("services: {web: {host: h", "nerve.json"),
        ('{"instance_id": "i-1", "services": {"web": {"host": "h", "port": 80, "prot": 1}}}', "prot: unknown key"),
        (
            '{"instance_id": "i-1", "services": {"web": {"host": "h", "port": 80, "zk_hosts": ["h"]}}}',
            "zk_path is missing",
        ),
    ],
)
def test_a_broken_file_on_a_hang_up_keeps_the_old_one(nerve: Nerve, broken: str, words: str) -> None:
    nerve.write({"web": {}})
    with nerve.running() as daemon:
        nerve.until_ready()
        nerve.file.write_text(broken)
        nerve.hang_up()
        until("the complaint", lambda: "the configuration was not reloaded" in daemon.output, 30, daemon)
        assert words in daemon.output
        assert len(nerve.nodes("web")) == 1
        nerve.write({"web": {"weight": 3}})
        nerve.hang_up()
        until("the next file", lambda: [node.get("weight") for node in nerve.nodes("web")] == [3], 30, daemon)


# On a real ZooKeeper.


@contextmanager
def observer(server: ZooKeeperServer) -> Iterator[KazooClient]:
    client = KazooClient(hosts=server.hosts, timeout=20)
    client.start(20)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def on_zookeeper(server: ZooKeeperServer, path: str, count: int = 1, **keys: Any) -> dict[str, dict[str, Any]]:
    where = {"reporter_type": "zookeeper", "zk_hosts": [server.hosts], "zk_session_timeout": 2}
    return {f"s{number}": {**where, "zk_path": f"{path}/s{number}", **keys} for number in range(count)}


def leaves(client: KazooClient, path: str, depth: int = 2) -> list[str]:
    """The nodes that are `depth` levels below the path."""
    level = [path]
    for _ in range(depth):
        below = []
        for node in level:
            try:
                below += [f"{node}/{child}" for child in client.get_children(node)]
            except NoNodeError:
                continue
        level = below
    return level


def test_a_registry_that_no_service_names_any_more_is_left(nerve: Nerve) -> None:
    nerve.write({"web": {}})
    with nerve.running() as daemon:
        nerve.until_ready()
        other = nerve.home / "other"
        nerve.write({"web": {"file_directory": str(other)}})
        nerve.hang_up()
        until("the move", lambda: len(list((other / "nerve" / "web").glob("i-*"))) == 1, 10, daemon)

        def followed() -> str:
            report = nerve.asks("health")
            return "" if report is None else "\n".join(report.lines)

        until("the end", lambda: str(other) in followed() and f"{nerve.registry}" not in followed(), 10, daemon)


def test_it_writes_what_smartstacks_nerve_writes(zookeeper: ZooKeeperServer, nerve: Nerve) -> None:
    with Origin(nerve.home, "origin") as origin, observer(zookeeper) as client:
        text = (GOLDEN / "nerve.json").read_text().replace("@ZK@", zookeeper.hosts)
        expected = json.loads((GOLDEN / "znodes.json").read_text())
        nerve.file.write_text(text.replace("29001", str(origin.port)).replace("29999", str(free_port())))
        # Ruby nerve never gets to write `slash`: it fails on the slash at the end of the path for ever.
        wanted = {node["path"]: node for node in expected} | {
            path: {"path": path, "data_utf8": data, "ephemeral": bool(data), "acl": [[31, "world", "anyone"]]}
            for path, data in {
                "/bench/interop/slash": "",
                "/bench/interop/slash/services": "",
                "/bench/interop/slash/services/i-0abc.example_0000000000": (
                    '{"host":"127.0.0.1","port":29001,"name":"i-0abc.example"}'
                ),
            }.items()
        }
        with nerve.running() as daemon:
            nerve.until_ready()
            paths, found = ["/bench/interop"], {}
            while paths:
                path = paths.pop()
                data, stat = client.get(path)
                acls, _ = client.get_acls(path)
                found[path] = {
                    "path": path,
                    "data_utf8": data.decode().replace(str(origin.port), "29001"),
                    "ephemeral": stat.ephemeralOwner != 0,
                    "acl": [[acl.perms, acl.id.scheme, acl.id.id] for acl in acls],
                }
                paths += [f"{path}/{child}" for child in client.get_children(path)]
            told = [{key: node[key] for key in ("path", "data_utf8", "ephemeral", "acl")} for node in wanted.values()]
            assert sorted(plain(found.values()), key=by_path) == sorted(plain(told), key=by_path)
            assert daemon.terminate() < 1
        assert leaves(client, "/bench/interop", 3) == []


def by_path(node: dict[str, Any]) -> str:
    return str(node["path"])


def plain(nodes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nodes, a `base64_` name compared with the data and left out: the port in it is another in each run."""
    read = []
    for node in nodes:
        above, _, name = node["path"].rpartition("/")
        if name.startswith("base64_"):
            _, length, rest = name.split("_", 2)
            text, number = rest[: int(length)], rest[int(length) :]
            data = base64.urlsafe_b64decode(text).decode()
            assert data.replace(str(json.loads(data)["port"]), "29001") == node["data_utf8"]
            node["path"] = f"{above}/base64{number}"
        read.append(node)
    return read


def test_a_thousand_services_are_withdrawn_within_a_second(
    zookeeper: ZooKeeperServer, nerve: Nerve, backend: socket.socket
) -> None:
    drain = threading.Thread(target=_accept_all, args=(backend,), daemon=True)
    drain.start()
    nerve.write(on_zookeeper(zookeeper, "/many", 1000, **checked(backend), check_interval=1))
    with observer(zookeeper) as client, nerve.running() as daemon:
        nerve.until_ready()
        assert len(leaves(client, "/many")) == 1000
        took = daemon.terminate()
        assert leaves(client, "/many") == []
        assert took < 1


def _accept_all(listener: socket.socket) -> None:
    while True:
        try:
            listener.accept()[0].close()
        except OSError:
            return


def test_a_killed_nerves_node_goes_with_its_session(zookeeper: ZooKeeperServer, nerve: Nerve) -> None:
    nerve.write(on_zookeeper(zookeeper, "/killed"))
    with observer(zookeeper) as client, nerve.running() as daemon:
        nerve.until_ready()
        daemon.kill()
        assert len(leaves(client, "/killed")) == 1
        tick = zookeeper.tick / 1000
        assert until("the end of the node", lambda: not leaves(client, "/killed"), 2 + 3 * tick) > 1


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_its_end_without_a_registry_is_bounded(start_zookeeper: StartZooKeeper, nerve: Nerve, fault: str) -> None:
    server = start_zookeeper()
    nerve.write(on_zookeeper(server, "/gone", 20))
    with nerve.running() as daemon:
        nerve.until_ready()
        getattr(server, fault)()
        time.sleep(0.2)  # it may or may not have noticed
        assert daemon.terminate() < 5
        assert "could not be withdrawn" in daemon.output
        assert "Traceback" not in daemon.output
    if fault == "pause":
        server.resume()


def test_it_starts_without_a_registry_and_registers_when_there_is_one(
    start_zookeeper: StartZooKeeper, nerve: Nerve
) -> None:
    server = start_zookeeper()
    server.kill()
    nerve.write(on_zookeeper(server, "/late"))
    with nerve.running() as daemon:
        until("a failed try", nerve.is_ready, 30, daemon)
        server.start()
        with observer(server) as client:
            until("the registration", lambda: len(leaves(client, "/late")) == 1, 30, daemon)


def test_a_node_that_others_delete_is_put_back_within_an_interval(zookeeper: ZooKeeperServer, nerve: Nerve) -> None:
    nerve.write(on_zookeeper(zookeeper, "/deleted", check_interval=3))
    with observer(zookeeper) as client, nerve.running() as daemon:
        nerve.until_ready()
        (node,) = leaves(client, "/deleted")
        client.delete(node)
        took = until("the node is back", lambda: leaves(client, "/deleted") not in ([], [node]), 30, daemon)
        assert took < 3


# Its files and its heartbeat.


def test_a_changed_file_is_taken_over_and_a_broken_one_is_not(nerve: Nerve) -> None:
    services = nerve.home / "services"
    services.mkdir()
    nerve.write({"web": {}}, service_conf_dir=str(services))
    with nerve.running() as daemon:
        nerve.until_ready()
        nerve.write({"web": {"weight": 3}}, service_conf_dir=str(services))
        until("the new weight", lambda: [node.get("weight") for node in nerve.nodes("web")] == [3], 30, daemon)
        good = nerve.file.read_text()
        nerve.file.write_text("services: {web: {host: h")
        until("the complaint", lambda: "the configuration was not reloaded" in daemon.output, 30, daemon)
        assert len(nerve.nodes("web")) == 1
        nerve.file.write_text(good)
        web = json.loads(good)["services"]["web"]
        (services / "api.json").write_text(json.dumps({**web, "file_path": "/nerve/api"}))
        until("the service of a new file", lambda: len(nerve.nodes("api")) == 1, 30, daemon)
        (services / "api.json").unlink()
        until("its end", lambda: not nerve.nodes("api"), 30, daemon)
        assert daemon.output.count("was not reloaded") == 1


def test_its_heart_beats(nerve: Nerve) -> None:
    beat = nerve.home / "beat"
    nerve.write({"web": {}}, heartbeat_path=str(beat))
    with nerve.running() as daemon:
        until("the heartbeat", beat.exists, 30, daemon)


def test_another_statsd_needs_a_restart_and_says_so(nerve: Nerve) -> None:
    nerve.write({"web": {}})
    with nerve.running() as daemon:
        nerve.until_ready()
        nerve.write({"web": {}}, statsd={"port": 1})
        nerve.hang_up()
        until("a warning", lambda: "only a restart of nerve changes statsd" in daemon.output, 15, daemon)


def test_copies_for_a_load_test_are_registered(nerve: Nerve) -> None:
    nerve.write({"web": {"load_test_concurrency": 5}})
    with nerve.running():
        nerve.until_ready()
        assert len(nerve.nodes("web")) == 5


def test_its_metrics_arrive(zookeeper: ZooKeeperServer, nerve: Nerve, backend: socket.socket) -> None:
    with Receiver() as receiver:
        statsd = {"host": "127.0.0.1", "port": receiver.port}
        nerve.write(on_zookeeper(zookeeper, "/metrics", **checked(backend)), statsd=statsd)
        with nerve.running() as daemon:
            nerve.until_ready()
            wanted = "nerve.watcher.status.service_check:"
            until("a metric", lambda: any(line.startswith(wanted) for line in receiver.lines()), 30, daemon)
            daemon.terminate()
        names = {line.partition(":")[0] for line in receiver.lines()}
        transition = "nerve.watcher.status.transition:1|c|#new_status:up,service_name:s0"
        assert receiver.lines().count(transition) == 1
    assert names == {
        "nerve.start", "nerve.stop", "nerve.config.update", "nerve.main_loop.elapsed_time", "nerve.watcher.launch",
        "nerve.watcher.start", "nerve.watcher.stop", "nerve.watcher.status.ping.count",
        "nerve.watcher.status.transition", "nerve.watcher.status.report.count", "nerve.watcher.status.service_check",
        "nerve.reporter.zk.client.created", "nerve.reporter.zk.create.elapsed_time",
        "nerve.reporter.zk.delete.elapsed_time",
    }  # fmt: skip
