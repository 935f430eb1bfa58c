"""A real ZooKeeper: our client comes through a proxy that breaks connections, the independent one is kazoo."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.retry import KazooRetry

from dockstack.model import Address
from dockstack.registry import Lease, Locator, Registry
from dockstack.registry.codec import sequence_of
from dockstack.registry.zookeeper import ZooKeeper
from dockstack.registry.zookeeper import open as open_zookeeper
from tests.contract.recording import quiet
from tests.servers.proxy import TcpProxy
from tests.servers.zookeeper import ZooKeeperServer

SESSION = 8.0
"""Seconds; long enough for a server to come back, short enough to wait for its deadlines."""

_worlds = itertools.count(1)


class ZooKeeperWorld:
    patience = SESSION

    def __init__(
        self, server: ZooKeeperServer, proxy: TcpProxy, kazoo: KazooClient, root: str, persistent_watches: bool
    ) -> None:
        self.name = "zookeeper" if persistent_watches else "one-shot"
        self._server = server
        self._proxy = proxy
        self._kazoo = kazoo
        self._root = root
        self._persistent_watches = persistent_watches

    def registry(self) -> AbstractAsyncContextManager[Registry]:
        hosts = (Address("127.0.0.1", self._proxy.port),)
        locator = Locator("zookeeper", hosts, self._root, session_timeout=SESSION)
        return open_zookeeper(locator, quiet, persistent_watches=self._persistent_watches)

    def number(self, lease: Lease) -> int | None:
        return sequence_of(lease.node)

    async def break_(self) -> None:
        await self._proxy.refuse()

    async def heal(self) -> None:
        """New connections are served; what went silent stays so, and the client has to give it up by itself."""
        await self._proxy.heal(reset=False)

    async def cut(self) -> None:
        self._proxy.cut()

    async def cut_in_reply(self, after: int) -> asyncio.Event:
        return self._proxy.cut_in_reply(after)

    async def silence(self) -> None:
        self._proxy.silence()

    async def expire(self, registry: Registry) -> None:
        """Another client takes the session over, and closes it: the server's answer to the first is "expired".

        The first is held up meanwhile, because it would take its session back at once.
        """
        session = cast(ZooKeeper, registry).session.id
        self._proxy.pause()
        await asyncio.to_thread(_close_session, self._server.hosts, session)
        await self._proxy.heal()

    async def restart(self) -> None:
        await asyncio.to_thread(self._server.restart)

    async def write(self, path: str, name: str, data: bytes) -> None:
        await self._ask(
            lambda: self._kazoo.retry(self._kazoo.create, f"{self._root}{path}/{name}", data, makepath=True)
        )

    async def fill(self, path: str, count: int) -> None:
        def fill() -> None:
            self._kazoo.retry(self._kazoo.ensure_path, self._root + path)
            numbers = range(count)
            data = (b'{"host":"10.0.0.1","port":%d}' % (number + 1) for number in numbers)
            names = (f"{self._root}{path}/fill_{number:010d}" for number in numbers)
            for answer in [self._kazoo.create_async(name, value) for name, value in zip(names, data, strict=True)]:
                answer.get(timeout=60)

        await self._ask(fill)

    async def delete(self, path: str, name: str) -> None:
        await self._ask(lambda: self._kazoo.retry(self._kazoo.delete, f"{self._root}{path}/{name}"))

    async def nodes(self, path: str) -> dict[str, bytes]:
        def read() -> dict[str, bytes]:
            try:
                names = self._kazoo.retry(self._kazoo.get_children, self._root + path)
            except NoNodeError:
                return {}
            answers = {name: self._kazoo.get_async(f"{self._root}{path}/{name}") for name in names}
            return {name: answer.get(timeout=60)[0] for name, answer in answers.items()}

        return cast(dict[str, bytes], await self._ask(read))

    async def _ask(self, call: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(call)


@asynccontextmanager
async def zookeeper_world(server: ZooKeeperServer, persistent_watches: bool) -> AsyncIterator[ZooKeeperWorld]:
    """A corner of the server of its own, emptied at the end."""
    root = f"/contract/{next(_worlds)}"
    retry = KazooRetry(max_tries=-1, max_delay=0.2)
    kazoo = KazooClient(server.hosts, timeout=30, connection_retry=retry, command_retry=retry.copy())
    await asyncio.to_thread(kazoo.start, 30)
    try:
        async with TcpProxy(server.port) as proxy:
            yield ZooKeeperWorld(server, proxy, kazoo, root, persistent_watches)
    finally:
        await asyncio.to_thread(kazoo.stop)
        await asyncio.to_thread(kazoo.close)


def _close_session(hosts: str, session: int) -> None:
    client = KazooClient(hosts, timeout=SESSION, client_id=(session, _password_of(session)))
    client.start(10)
    client.stop()
    client.close()


def _password_of(session: int) -> bytes:
    """A session's password, as the server makes it: `new Random(id ^ 0xB3415C00).nextBytes` of 16 bytes."""
    state = ((session ^ 0xB3415C00) ^ 0x5DEECE66D) & ((1 << 48) - 1)
    words = []
    for _ in range(4):
        state = (state * 0x5DEECE66D + 0xB) & ((1 << 48) - 1)
        words.append(state >> 16)
    return struct.pack("<4I", *words)
