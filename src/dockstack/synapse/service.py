"""One service of synapse: what its watcher has seen becomes its settings and its entry in the catalog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dockstack.events import Emit, Warn
from dockstack.model import Entry
from dockstack.registry import Snapshot
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.generator import overlay
from dockstack.synapse.select import select
from dockstack.synapse.watchers import Watcher

Faults = Callable[[str, SynapseService], tuple[str, ...]]
"""Why a service cannot be served with these settings; empty: it can."""


class Service:
    """Follows a watcher. `own` are the settings of the file; the registry's configuration may overlay them.

    `saved` and `config` are the entry and that configuration as they were in the last run, None and "" if unknown.
    """

    def __init__(self, name: str, own: SynapseService, watcher: Watcher, faults: Faults, emit: Emit) -> None:
        self.name = name
        self.heard = False
        self.config = ""
        self.settings = own
        self._own = own
        self._watcher = watcher
        self._faults = faults
        self._emit = emit
        self._snapshot: Snapshot | None = None
        self._entry: Entry | None = None
        self._told: dict[str, tuple[str, ...]] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each thing that an operator should know about its instances and its configuration."""
        return tuple(problem for each in self._told.values() for problem in each)

    def restore(self, entry: Entry, config: str) -> None:
        """Begins with what the last run knew."""
        self._entry = entry
        self._configure(config)

    def entry(self) -> Entry:
        """The entry that follows from the newest snapshot; without any: what was restored, or the default servers."""
        selection = select(self.name, self.settings, self._snapshot, self._entry)
        self._tell("entry", selection.problems)
        if self._snapshot is not None:
            self._entry = selection.entry
        return selection.entry

    async def follow(self, changed: Callable[[Service], None]) -> None:
        """Calls `changed` after each snapshot of the watcher, for ever."""
        async for snapshot in self._watcher.follow():
            self._snapshot = snapshot
            self.heard = True
            config = snapshot.data.decode(errors="replace")
            if config.strip() and config != self.config:
                self._configure(config)
            changed(self)
        await asyncio.Event().wait()

    def _configure(self, config: str) -> None:
        """Takes the registry's configuration, unless the service could not be served with it."""
        if not config.strip():
            return
        overlaid = overlay(self.name, self._own, config.encode())
        faults = self._faults(self.name, overlaid.service)
        self._tell("config", (*overlaid.problems, *(f"{one} (in the registry's configuration)" for one in faults)))
        self.config = config
        if not faults and overlaid.service != self.settings:
            self.settings = overlaid.service

    def _tell(self, about: str, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self._told.get(about, ()):
                self._emit(Warn(problem))
        self._told[about] = problems
