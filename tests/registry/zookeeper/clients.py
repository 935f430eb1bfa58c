"""Where a client connects, and what a test asks of its session directly."""

from __future__ import annotations

import asyncio
from typing import Any

from dockstack.errors import RegistryUnavailable
from dockstack.model import Address
from dockstack.registry import Lease, Locator, Registration, Tls
from dockstack.registry.zookeeper import ZooKeeper


def at(*ports: int, root: str = "", timeout: float = 3.0, tls: Tls | None = None, user: str = "") -> Locator:
    """A locator for these ports of 127.0.0.1; `user` is `name:password`."""
    hosts = tuple(Address("127.0.0.1", port) for port in ports)
    name, _, password = user.partition(":")
    return Locator("zookeeper", hosts, root, name or None, password or None, tls, timeout)


async def call(registry: ZooKeeper, request: Any) -> Any:
    return await registry.session.call(request)


async def linked(registry: ZooKeeper, limit: float = 10.0) -> None:
    """Waits until the session has a connection."""
    async with asyncio.timeout(limit):
        await registry.session.connected()


async def put_again(registry: ZooKeeper, registration: Registration) -> Lease:
    """Puts until it works, as nerve does."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await registry.put(registration)
            except RegistryUnavailable:
                await asyncio.sleep(0.005)
