"""The ZooKeeper registry: our own session on aiozk's protocol layer. Why it is ours: docs/adr/0001."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiozk.protocol.watches import WatchEvent

from dockstack.errors import ConfigurationError, Problem
from dockstack.events import Emit
from dockstack.registry import Decoder, Lease, Locator, Registration, Registry, Snapshot, tls
from dockstack.registry.zookeeper.announce import Announcements
from dockstack.registry.zookeeper.discover import Discovery
from dockstack.registry.zookeeper.session import Session
from dockstack.runtime.scope import servants


@asynccontextmanager
async def open(locator: Locator, emit: Emit, persistent_watches: bool = True) -> AsyncIterator[Registry]:
    """A session with the servers of the locator. Entering waits for none of them; leaving takes at most two seconds.

    `persistent_watches` false does as if the server were older than 3.6. Raises ConfigurationError for a locator
    without hosts, and for TLS files that cannot be used.
    """
    if not locator.hosts:
        raise ConfigurationError(Problem(str(locator), "there is no ZooKeeper host in it"))
    secure = None if locator.tls is None else tls.context(locator.tls, "ZooKeeper")
    registry = ZooKeeper(locator, secure, emit, persistent_watches)
    try:
        async with servants() as tasks:
            tasks.create_task(registry.session.run())
            tasks.create_task(registry.announcements.verify())
            tasks.create_task(registry.announcements.clean())
            yield registry
    finally:
        await registry.session.close()


class ZooKeeper:
    """Announcer and discoverer over one session."""

    def __init__(self, locator: Locator, secure: ssl.SSLContext | None, emit: Emit, persistent_watches: bool) -> None:
        self.session = Session(locator, secure, on_watch=self._happened, on_link=self._linked, emit=emit)
        self.announcements = Announcements(self.session, locator.root, emit)
        self._discovery = Discovery(self.session, locator.root, emit, persistent_watches)

    @property
    def state(self) -> str:
        return self.session.state

    @property
    def reachable(self) -> bool:
        return self.session.is_connected

    async def put(self, registration: Registration) -> Lease:
        return await self.announcements.put(registration)

    async def remove(self, lease: Lease) -> None:
        await self.announcements.remove(lease)

    def holds(self, lease: Lease) -> bool:
        return self.announcements.holds(lease)

    async def lost(self, lease: Lease) -> None:
        await self.announcements.lost(lease)

    def watch(self, path: str, decoder: Decoder) -> AsyncIterator[Snapshot]:
        return self._discovery.watch(path, decoder)

    async def read(self, path: str, decoder: Decoder) -> Snapshot:
        return await self._discovery.read(path, decoder)

    def _linked(self, session: int) -> None:
        """After each new connection, or the end of the session, all nodes are in doubt and all sets are old."""
        self.announcements.doubt_all()
        if session:
            self._discovery.reread()

    def _happened(self, event: WatchEvent) -> None:
        self.announcements.doubt(event.path)
        self._discovery.happened(event)
