"""One watcher of a service: what it has seen, and the entry that follows from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Set
from dataclasses import replace
from time import monotonic

from dockstack.model import Entry
from dockstack.registry import Snapshot
from dockstack.settings.discovery import OneDiscovery
from dockstack.settings.synapse import SynapseService
from dockstack.synapse import generator
from dockstack.synapse.resolve import Found
from dockstack.synapse.select import Selection, select
from dockstack.synapse.watchers import Watcher

BURST = 0.02
"""Seconds, at most, between the snapshots of a set that is emptied node by node in one go: by a registry that ends the
sessions of many hosts, or by a script."""


class Source:
    """Follows a watcher. `name` is "" where the service has no other; `title` is what messages call it.

    `config` is the last configuration in the registry that says something about one of the `outputs`.
    """

    def __init__(self, service: str, name: str, discovery: OneDiscovery, watcher: Watcher, outputs: Set[str]) -> None:
        self.name = name
        self.title = f"{service}, watcher {name}" if name else service
        self.config = ""
        self._discovery = discovery
        self._watcher = watcher
        self._outputs = outputs
        self._data = b""
        self._doubts: tuple[str, ...] = ()
        self._snapshot: Snapshot | None = None
        self._entry: Entry | None = None
        self._whole: Entry | None = None
        self._shrinks = False
        self._seen_at = 0.0

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

    async def follow(self) -> AsyncIterator[bool]:
        """Yields after each snapshot of the watcher whether it has new configuration that cannot be used.

        Emptied or unusable configuration keeps the last good one.
        """
        async for snapshot in self._watcher.follow():
            self._see(snapshot)
            fresh = snapshot.data != self._data
            if fresh:
                self._take(snapshot.data)
            yield fresh and bool(self._doubts)

    def _see(self, snapshot: Snapshot) -> None:
        """What is kept of a set that is emptied in one go is the whole of it, and not the last one that was left."""
        now, before = monotonic(), self._snapshot
        shrinks = before is not None and len(snapshot.instances) < len(before.instances)
        if not (shrinks and self._shrinks and now - self._seen_at <= BURST):
            self._whole = self._entry
        self._shrinks, self._seen_at = shrinks, now
        self._snapshot = snapshot

    def _take(self, data: bytes) -> None:
        self._data = data
        said = generator.read(self.title, data, self._outputs)
        self._doubts = () if said.sections else said.problems
        if said.sections:
            self.config = data.decode(errors="replace")

    def select(self, own: SynapseService) -> tuple[Found, Selection]:
        """What follows from the newest snapshot; without any: what was restored, or the default servers."""
        previous = self._entry if self._snapshot is None else self._whole
        selection = select(self.title, own, self._snapshot, previous, self._discovery)
        if self._snapshot is not None:
            self._entry = selection.entry
        if self._doubts:
            selection = replace(selection, problems=(*selection.problems, *self._doubts))
        return Found(self.heard, selection.entry, self.config), selection
