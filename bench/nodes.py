"""The znodes of a benchmark: a ZooKeeper of its own, and who writes there, with the moment of each write."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kazoo.client import KazooClient

from tests.servers.zookeeper import ZooKeeperServer

_LIMIT = 20.0
_WINDOW = 1000


def instance(name: str, host: str, port: int) -> bytes:
    """What nerve would write."""
    return json.dumps({"host": host, "port": port, "name": name}, separators=(",", ":")).encode()


@dataclass(slots=True)
class Write:
    """A write under way: when it was sent, and, once ZooKeeper has confirmed it, when that was and which node it is.

    Times in seconds of the monotonic clock, which all processes of a machine share.
    """

    sent: float
    acknowledged: float = 0.0
    node: str = ""
    failure: list[BaseException] = field(default_factory=list)

    def done(self) -> bool:
        """Whether ZooKeeper has confirmed it; raises what it said instead."""
        if self.failure:
            raise self.failure[0]
        return self.acknowledged > 0

    def wait(self) -> Write:
        """Returns when it is done."""
        end = time.monotonic() + _LIMIT
        while not self.done():
            if time.monotonic() > end:
                raise TimeoutError("ZooKeeper does not confirm a write")
            time.sleep(0.0005)
        return self


class Nodes:
    """Writes nodes below a ZooKeeper; calls that end in `_soon` do not wait for the confirmation."""

    def __init__(self, client: KazooClient, hosts: str) -> None:
        self.hosts = hosts
        self._client = client

    def create_soon(self, path: str, data: bytes) -> Write:
        """A node with a sequence number behind PATH_, as nerve makes them."""
        write = Write(time.monotonic())
        answer = self._client.create_async(f"{path}_", data, sequence=True, ephemeral=True)
        answer.rawlink(lambda result: _confirm(write, result))
        return write

    def delete_soon(self, node: str) -> Write:
        write = Write(time.monotonic(), node=node)
        self._client.delete_async(node).rawlink(lambda result: _confirm(write, result))
        return write

    def set(self, path: str, data: bytes) -> Write:
        write = Write(time.monotonic(), node=path)
        self._client.set_async(path, data).rawlink(lambda result: _confirm(write, result))
        return write.wait()

    def make(self, paths: Iterable[str]) -> None:
        """Empty, persistent nodes."""
        for path in paths:
            self._client.ensure_path(path)

    def create(self, nodes: Iterable[tuple[str, bytes]]) -> list[Write]:
        """Many nodes, a thousand on their way at a time; returns when all are confirmed."""
        writes: list[Write] = []
        for at, (path, data) in enumerate(nodes):
            writes.append(self.create_soon(path, data))
            if at >= _WINDOW:
                writes[at - _WINDOW].wait()
        return [write.wait() for write in writes]

    def delete(self, nodes: Iterable[str]) -> list[Write]:
        """The same for deletions."""
        writes = [self.delete_soon(node) for node in nodes]
        return [write.wait() for write in writes]


def _confirm(write: Write, result: object) -> None:
    try:
        node = result.get()  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 - it is raised where the write is waited for
        write.failure.append(error)
        return
    write.node = node if isinstance(node, str) else write.node
    write.acknowledged = time.monotonic()


@contextmanager
def zookeeper(directory: Path) -> Iterator[Nodes]:
    """A ZooKeeper, alone, and a session with it."""
    with ZooKeeperServer(directory / "zookeeper") as server:
        client = KazooClient(hosts=server.hosts, timeout=_LIMIT)
        client.start(_LIMIT)
        try:
            yield Nodes(client, server.hosts)
        finally:
            client.stop()
            client.close()
