"""The README's MySQL walk-through with real programs: ZooKeeper, MariaDB, nerve, synapse, HAProxy and a client."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from tests.e2e.programs import dockstack, until
from tests.servers.mariadb import MariaDBServer
from tests.servers.ports import free_port
from tests.servers.zookeeper import ZooKeeperServer

PATH = "/nerve/test"


@contextlib.contextmanager
def observer(zookeeper: ZooKeeperServer) -> Iterator[KazooClient]:
    client = KazooClient(hosts=zookeeper.hosts, timeout=20)
    client.start(20)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def select_one(port: int) -> subprocess.CompletedProcess[str]:
    """What a user would type."""
    return subprocess.run(
        [
            shutil.which("mariadb") or "mysql",
            "--no-defaults",
            "-h",
            "127.0.0.1",
            "-P",
            str(port),
            "-u",
            "haproxy_check",
            "-N",
            "-e",
            "select 1",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )


def closed_without_a_greeting(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.settimeout(5)
        try:
            return client.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def registered(client: KazooClient) -> list[str]:
    return list(client.get_children(PATH)) if client.exists(PATH) else []


def test_mysql_over_zookeeper(tmp_path: Path, zookeeper: ZooKeeperServer, mariadb: MariaDBServer) -> None:
    url, port = zookeeper.url("nerve"), free_port()
    with (
        observer(zookeeper) as client,
        dockstack(
            tmp_path / "nerve.log", "nerve", "-d", url, "-s", f"mysql:mysql:{mariadb.port}:/test",
            "--run-dir", str(tmp_path / "nerve"), "--state-dir", str(tmp_path / "nerve-state"),
            SERVICE_HOST="127.0.0.1",
        ) as nerve,
        dockstack(
            tmp_path / "synapse.log", "synapse", "-d", url, "-s", "mysql:mysql:/test",
            "-r", f"mysql:.haproxy.port={port}", "--bind", "127.0.0.1", "--stats", "off",
            "--run-dir", str(tmp_path / "synapse"), "--state-dir", str(tmp_path / "synapse-state"),
        ) as synapse,
    ):  # fmt: skip
        until("the registration", lambda: len(registered(client)) == 1, 30, nerve)
        until("a first query through HAProxy", lambda: select_one(port).stdout.strip() == "1", 30, synapse)

        mariadb.stop()
        until("the withdrawal", lambda: not registered(client), 30, nerve)
        until("an end of file instead of a greeting", lambda: closed_without_a_greeting(port), 30, synapse)

        mariadb.start()
        began = time.monotonic()
        until("the query after the restart", lambda: select_one(port).stdout.strip() == "1", 30, synapse)
        print(f"MariaDB started → the client's query works: {(time.monotonic() - began) * 1000:.0f} ms")

        assert nerve.terminate() < 2
        assert registered(client) == []
        assert synapse.terminate() < 5
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)


def test_the_znode_of_a_killed_nerve_is_gone_after_the_session_timeout(
    tmp_path: Path, zookeeper: ZooKeeperServer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service, observer(zookeeper) as client:
        with dockstack(
            tmp_path / "nerve.log", "nerve", "-d", zookeeper.url("nerve"),
            "-s", f"web:tcp:{service.getsockname()[1]}:/killed", "--session-timeout", "4",
            "--run-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state"), SERVICE_HOST="127.0.0.1",
        ) as nerve:  # fmt: skip
            path = "/nerve/killed"
            until("the registration", lambda: bool(client.exists(path) and client.get_children(path)), 30, nerve)
            nerve.kill()
        began = time.monotonic()
        until("the end of the session", lambda: not client.get_children(path), 4 + 10)
        assert time.monotonic() - began > 1, "the server ended the session, not the kernel's reset"
