"""A real etcd: our client comes through a proxy that breaks connections, the independent one asks it directly."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

from dockstack.model import Address
from dockstack.registry import Lease, Locator, Registry
from dockstack.registry.etcd import Etcd
from dockstack.registry.etcd import open as open_etcd
from tests.contract.recording import quiet
from tests.servers.etcd import EtcdServer, text
from tests.servers.proxy import TcpProxy

TTL = 8.0
"""Seconds; long enough for a server to come back."""

_worlds = itertools.count(1)


class EtcdWorld:
    name = "etcd"
    patience = TTL

    def __init__(self, server: EtcdServer, proxy: TcpProxy) -> None:
        self._server = server
        self._proxy = proxy

    def registry(self) -> AbstractAsyncContextManager[Registry]:
        return open_etcd(Locator("etcd", (Address("127.0.0.1", self._proxy.port),), session_timeout=TTL), quiet)

    def number(self, lease: Lease) -> int:
        key = f"{lease.registration.path}/{lease.node}"
        (found,) = self._server.ask("kv/range", {"key": text(key)})["kvs"]
        return int(found["create_revision"])

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
        """Another client revokes the lease; who has none loses its connections."""
        lease = cast(Etcd, registry).tenure.current
        if lease is None:
            self._proxy.cut()
        else:
            await asyncio.to_thread(self._server.ask, "lease/revoke", {"ID": str(lease)})

    async def restart(self) -> None:
        await asyncio.to_thread(self._server.restart)

    async def write(self, path: str, name: str, data: bytes) -> None:
        await asyncio.to_thread(self._server.put, f"{path}/{name}", data)

    async def fill(self, path: str, count: int) -> None:
        def fill() -> None:
            for start in range(0, count, 100):
                puts = [
                    {
                        "key": text(f"{path}/fill_{number:010d}"),
                        "value": text(f'{{"host":"10.0.0.1","port":{number + 1}}}'),
                    }
                    for number in range(start, min(start + 100, count))
                ]
                self._server.ask("kv/txn", {"success": [{"request_put": put} for put in puts]})

        await asyncio.to_thread(fill)

    async def delete(self, path: str, name: str) -> None:
        await asyncio.to_thread(self._server.delete, f"{path}/{name}")

    async def nodes(self, path: str) -> dict[str, bytes]:
        return await asyncio.to_thread(self._server.members, f"{path}/")


@asynccontextmanager
async def etcd_world(server: EtcdServer) -> AsyncIterator[EtcdWorld]:
    """The whole server, emptied at the end."""
    try:
        async with TcpProxy(server.port) as proxy:
            yield EtcdWorld(server, proxy)
    finally:
        everything = {"key": text("\0"), "range_end": text("\0")}
        await asyncio.to_thread(server.ask, "kv/deleterange", everything)
