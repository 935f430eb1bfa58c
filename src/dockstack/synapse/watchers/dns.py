"""The method `dns`: the addresses behind names that stand in the settings, or behind their SRV records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from dockstack.events import Emit
from dockstack.model import NO_PORT, Instance
from dockstack.registry import Snapshot
from dockstack.registry.codec import compact
from dockstack.settings.discovery import DnsDiscovery, DnsServer
from dockstack.synapse.watchers import Sessions, Watcher
from dockstack.synapse.watchers._named import named


@dataclass(frozen=True, slots=True)
class _Given:
    snapshot: Snapshot

    async def follow(self) -> AsyncIterator[Snapshot]:
        """One set, at once."""
        yield self.snapshot


def build(settings: DnsDiscovery, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher of the names. Raises ConfigurationError where DNS cannot be asked as the settings want it."""
    return named(_Given(Snapshot(tuple(map(_instance, settings.servers)))), settings, emit)


def _instance(server: DnsServer) -> Instance:
    return Instance(
        host=server.host,
        port=NO_PORT if server.port is None else server.port,
        name=server.name,
        labels=None if server.labels is None else compact(server.labels),
    )
