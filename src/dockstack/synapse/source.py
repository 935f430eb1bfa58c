"""One watcher of a service: what it has seen, and the entry that follows from it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from dockstack.model import Entry
from dockstack.registry import Snapshot
from dockstack.settings.discovery import OneDiscovery
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.resolve import Found
from dockstack.synapse.select import Selection, select
from dockstack.synapse.watchers import Watcher


class Source:
    """Follows a watcher. `name` is "" where the service has no other; `title` is what messages call it."""

    def __init__(self, service: str, name: str, discovery: OneDiscovery, watcher: Watcher) -> None:
        self.name = name
        self.title = f"{service}, watcher {name}" if name else service
        self.config = ""
        self._discovery = discovery
        self._watcher = watcher
        self._snapshot: Snapshot | None = None
        self._entry: Entry | None = None

    @property
    def heard(self) -> bool:
        """Whether the source has answered."""
        return self._snapshot is not None

    @property
    def known(self) -> Entry | None:
        """The last entry that came from the source, in this run or the last one; None: nothing is known."""
        return self._entry

    def restore(self, entry: Entry | None, config: str) -> None:
        """Begins with what the last run knew."""
        self._entry = entry
        self.config = config

    async def follow(self) -> AsyncIterator[None]:
        """Yields after each snapshot of the watcher; emptied configuration data keeps the last good one."""
        async for snapshot in self._watcher.follow():
            self._snapshot = snapshot
            config = snapshot.data.decode(errors="replace")
            if config.strip():
                self.config = config
            yield

    def select(self, own: SynapseService) -> tuple[Found, Selection]:
        """What follows from the newest snapshot; without any: what was restored, or the default servers."""
        selection = select(self.title, own, self._snapshot, self._entry, self._discovery)
        if self._snapshot is not None:
            self._entry = selection.entry
        return Found(self.heard, selection.entry, self.config), selection
