"""One service of synapse: what its watcher has seen becomes its entry in the catalog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dockstack.events import Emit, Warn
from dockstack.model import Entry
from dockstack.registry import Snapshot
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.select import select
from dockstack.synapse.watchers import Watcher


class Service:
    """Follows a watcher and tells each new entry. `saved` is the entry of the last run, None if there is none."""

    def __init__(self, name: str, own: SynapseService, watcher: Watcher, saved: Entry | None, emit: Emit) -> None:
        self.name = name
        self.heard = False
        self._own = own
        self._watcher = watcher
        self._emit = emit
        self._snapshot: Snapshot | None = None
        self._entry = saved
        self._problems: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each thing about its instances that an operator should know."""
        return self._problems

    def entry(self) -> Entry:
        """The entry that follows from the newest snapshot; without any: what was saved, or the default servers."""
        selection = select(self.name, self._own, self._snapshot, self._entry)
        for problem in selection.problems:
            if problem not in self._problems:
                self._emit(Warn(problem))
        self._problems = selection.problems
        if self._snapshot is not None:
            self._entry = selection.entry
        return selection.entry

    async def follow(self, changed: Callable[[Service], None]) -> None:
        """Calls `changed` after each snapshot of the watcher, for ever."""
        async for snapshot in self._watcher.follow():
            self._snapshot = snapshot
            self.heard = True
            changed(self)
        await asyncio.Event().wait()
