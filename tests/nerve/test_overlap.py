"""Other settings, by SIGHUP or by a changed file: at no moment does a real ZooKeeper have fewer registrations.

A persistent watch tells every node that comes and goes, in the order of ZooKeeper's transactions: nothing between two
looks is missed, as it would be by reading the set again and again.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiozk.protocol.connect import ConnectRequest
from aiozk.protocol.watches import WatchEvent

from dockstack.registry.zookeeper.connection import Server, connect
from dockstack.registry.zookeeper.wire import watch_below
from tests.nerve.test_daemon import Nerve, nerve, observer, on_zookeeper
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import eventually

__all__ = ["nerve"]

KINDS = ("ephemeral_sequential", "ephemeral", "persistent", "persistent_sequential")


class Watched:
    """How many registrations each path below the root has, and the fewest that it had since it had one."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.fewest: dict[str, int] = {}
        self.came: Counter[str] = Counter()
        self.written: Counter[str] = Counter()

    def __call__(self, event: WatchEvent) -> None:
        path, _, name = event.path.rpartition("/")
        if not name.startswith("i-"):
            return  # a parent
        if event.type == WatchEvent.DATA_CHANGED:
            self.written[path] += 1
            return
        created = event.type == WatchEvent.CREATED
        self.now[path] += 1 if created else -1
        self.came[path] += created
        self.fewest[path] = min(self.fewest.get(path, 1), self.now[path])


@asynccontextmanager
async def watched(server: ZooKeeperServer, root: str) -> AsyncIterator[Watched]:
    with observer(server) as client:
        client.ensure_path(root)
    found = Watched()
    connection = await connect(Server("127.0.0.1", "127.0.0.1", server.port), None, found, 5.0)
    await connection.handshake(
        ConnectRequest(
            protocol_version=0, last_seen_zxid=0, timeout=60_000, session_id=0, password=b"\0" * 16, read_only=False
        )
    )
    await connection.send(watch_below(root))
    yield found
    assert not connection.closed.done(), "events may have been missed"
    await connection.end_session()
    connection.abort("the test is over")


def registered(server: ZooKeeperServer, paths: Iterable[str]) -> list[tuple[str, int]]:
    """Name and weight of each registration."""
    with observer(server) as client:
        nodes = [f"{path}/{name}" for path in paths for name in client.get_children(path)]
        read = [json.loads(client.get(node)[0]) for node in nodes]
    return [(one["name"], one["weight"]) for one in read]


@pytest.mark.parametrize("how", ["hang up", "file"])
async def test_a_changed_service_never_has_fewer_registrations(
    zookeeper: ZooKeeperServer, nerve: Nerve, how: str
) -> None:
    root = f"/overlap/{how.replace(' ', '')}"

    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    keys = {"port": server.sockets[0].getsockname()[1], "checks": [{"type": "tcp", "timeout": 1}]}
    keys["check_interval"] = 0.1

    def services(**more: Any) -> dict[str, dict[str, Any]]:
        return {
            f"{kind} {name}": {**service, "node_type": kind}
            for kind in KINDS
            for name, service in on_zookeeper(zookeeper, f"{root}/{kind}", 3, **keys, **more).items()
        }

    def write(wanted: Mapping[str, Mapping[str, Any]], instance_id: str) -> None:
        nerve.write(wanted, instance_id)
        if how == "hang up":
            nerve.hang_up()

    paths = [f"{root}/{kind}/s{number}" for kind in KINDS for number in range(3)]

    nerve.write(services(), "i-1")
    async with server, watched(zookeeper, root) as found:
        with nerve.running():
            await eventually(nerve.is_ready, "readiness", pause=0.05)
            await eventually(lambda: found.now == dict.fromkeys(paths, 1), "the first ones are seen here, too")
            write(services(weight=7), "i-1")
            await eventually(lambda: found.written == dict.fromkeys(paths, 1), "the weight")
            write(services(weight=7), "i-2")
            await eventually(lambda: found.came == dict.fromkeys(paths, 2), "the new ones")
            await eventually(lambda: found.now == dict.fromkeys(paths, 1), "the old ones' end")
            assert found.fewest == dict.fromkeys(paths, 1)
            assert await asyncio.to_thread(registered, zookeeper, paths) == [("i-2", 7)] * len(paths)
