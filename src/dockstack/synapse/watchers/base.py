"""The method `base`: nothing is discovered; the default servers are all there is."""

from __future__ import annotations

from collections.abc import AsyncIterator

from dockstack.events import Emit
from dockstack.registry import Snapshot
from dockstack.settings.discovery import BaseDiscovery
from dockstack.synapse.watchers import Sessions, Watcher


class _Nothing:
    async def follow(self) -> AsyncIterator[Snapshot]:
        """One empty set, at once."""
        yield Snapshot(())


def build(settings: BaseDiscovery, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher that finds nothing."""
    return _Nothing()
