"""The etcd registry, version 3, through etcd's own JSON gateway. Why not a client library: docs/adr/0002.

One lease for all registrations of the process; a key is `PATH/NAME_LEASE_NUMBER`, its value nerve's JSON.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dockstack.errors import ConfigurationError, Problem
from dockstack.events import Emit
from dockstack.registry import Decoder, Lease, Locator, Registration, Registry, Snapshot, tls
from dockstack.registry.etcd.announce import Announcements
from dockstack.registry.etcd.discover import Discovery
from dockstack.registry.etcd.gateway import Gateway
from dockstack.registry.etcd.lease import Tenure
from dockstack.registry.etcd.writer import Writer
from dockstack.runtime.scope import servants


@asynccontextmanager
async def open(locator: Locator, emit: Emit) -> AsyncIterator[Registry]:
    """The members of the locator. Entering waits for none of them; leaving takes about a second at most.

    Raises ConfigurationError for a locator without hosts, and for TLS files that cannot be used.
    """
    if not locator.hosts:
        raise ConfigurationError(Problem(str(locator), "there is no etcd host in it"))
    registry = Etcd(locator, None if locator.tls is None else tls.context(locator.tls, "etcd"), emit)
    try:
        async with servants() as tasks:
            for work in registry.work:
                tasks.create_task(work())
            yield registry
    finally:
        try:
            await registry.tenure.revoke()
        finally:
            await registry.gateway.close()


class Etcd:
    """Announcer, discoverer and reader over one gateway."""

    def __init__(self, locator: Locator, secure: ssl.SSLContext | None, emit: Emit) -> None:
        self.gateway = Gateway(locator, secure, emit)
        self.tenure = Tenure(self.gateway, locator.session_timeout, self._ended, emit)
        self.writer = Writer(self.gateway)
        self.announcements = Announcements(self.gateway, self.tenure, self.writer)
        self.discovery = Discovery(self.gateway)
        self.work = (
            self.gateway.run,
            self.tenure.run,
            self.writer.run,
            self.announcements.verify,
            self.announcements.audit,
            self.discovery.audit,
        )

    @property
    def state(self) -> str:
        return self.gateway.state

    @property
    def reachable(self) -> bool:
        return self.gateway.is_up

    async def put(self, registration: Registration) -> Lease:
        return await self.announcements.put(registration)

    async def remove(self, lease: Lease) -> None:
        await self.announcements.remove(lease)

    def holds(self, lease: Lease) -> bool:
        return self.announcements.holds(lease)

    async def lost(self, lease: Lease) -> None:
        await self.announcements.lost(lease)

    def watch(self, path: str, decoder: Decoder) -> AsyncIterator[Snapshot]:
        return self.discovery.watch(path, decoder)

    async def read(self, path: str, decoder: Decoder) -> Snapshot:
        return await self.discovery.read(path, decoder)

    def _ended(self, lease: int) -> None:
        self.announcements.ended(lease)
