"""One service of synapse: what its watchers have seen becomes its settings and its entry in the catalog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dockstack.events import Emit, Warn
from dockstack.model import Entry
from dockstack.settings.multi import PRIMARY
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.events import ConfigurationUnusable, WatcherChosen, WatcherUnknown
from dockstack.synapse.generator import overlay
from dockstack.synapse.resolve import Resolved, adopted, resolve
from dockstack.synapse.source import Source
from dockstack.synapse.toggle import Toggle
from dockstack.synapse.watchers import Watcher


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a service stands in: the outputs that are configured, and who says why it cannot stand there.

    `faults` gives the reasons why a service cannot be served with these settings; none: it can.
    """

    outputs: frozenset[str]
    faults: Callable[[str, SynapseService], tuple[str, ...]]


class Service:
    """Follows its watchers, and the toggle that says which of them is used, where a file of weights decides.

    `own` are the settings of the file; the registry's configuration may overlay them.
    """

    def __init__(
        self,
        name: str,
        own: SynapseService,
        watchers: Mapping[str, Watcher],
        around: Surroundings,
        emit: Emit,
        *,
        toggle: Toggle | None = None,
    ) -> None:
        self.name = name
        self.config = ""
        self.settings = own
        self.own = own
        self.toggle = toggle
        self._answered = asyncio.Event()
        self._sources = tuple(
            Source(name, watcher, discovery, watchers[watcher], around.outputs)
            for watcher, discovery in own.watchers.items()
        )
        self._around = around
        self._emit = emit
        self._stand_in: Entry | None = None
        self._chosen: str | None = None
        self._toggled = PRIMARY
        self._told: dict[str, tuple[str, ...]] = {}

    @property
    def heard(self) -> bool:
        """Whether every watcher has answered."""
        return all(one.heard for one in self._sources)

    async def answered(self) -> None:
        """Returns when every watcher has answered, and the file of weights has been asked for."""
        await self._answered.wait()
        if self.toggle is not None:
            await self.toggle.asked()

    @property
    def silent(self) -> tuple[str, ...]:
        """For each watcher that has not answered yet: which one it is, in words."""
        names = (one.name for one in self._sources if not one.heard)
        return tuple(f"{self.name}: its watcher {name}".rstrip() for name in names)

    @property
    def known(self) -> bool:
        """Whether anything is known about the service: an answer, what the last run knew, or default servers."""
        return (
            self._stand_in is not None
            or bool(self.own.default_servers)
            or any(one.heard or one.known is not None for one in self._sources)
        )

    @property
    def choice(self) -> str | None:
        """Which watcher is used, as a sentence; None where none is chosen."""
        return None if self._chosen is None else f"service {self.name}: served from the watcher {self._chosen}"

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each thing that an operator should know about its instances and its configuration."""
        return tuple(problem for each in self._told.values() for problem in each)

    @property
    def parts(self) -> Mapping[str, tuple[Entry, str]]:
        """What a restart must know of each watcher of which something is known: its entry and configuration."""
        return {one.name: (one.known, one.config) for one in self._sources if one.known is not None}

    def restore(self, parts: Mapping[str, tuple[Entry, str]]) -> None:
        """Begins with what the last run knew of the watchers."""
        for source in self._sources:
            if source.name in parts:
                source.restore(*parts[source.name])
        self._configure(self._resolve().config)

    def succeed(self, other: Service) -> None:
        """Begins with what is known of the watchers that look for the same in another one with this name."""
        same = [name for name, looks in self.own.watchers.items() if other.own.watchers.get(name) == looks]
        self._stand_in = other._stand_in if same else None
        if self.toggle is not None and self.toggle is other.toggle and other._toggled in self.own.watchers:
            self._toggled = other._toggled
        self.restore({name: part for name, part in other.parts.items() if name in same})

    def stand_in(self, entry: Entry) -> None:
        """What is served as long as no watcher has answered and nothing else is known."""
        self._stand_in = entry

    def entry(self) -> Entry:
        """The entry that follows from the newest snapshots; without any: what was restored, or the default servers."""
        if self._stand_in is not None and not any(one.heard or one.known is not None for one in self._sources):
            return self._stand_in
        return self._resolve().entry

    async def follow(self, changed: Callable[[Service], None]) -> None:
        """Calls `changed` after each snapshot of a watcher, for ever."""
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(self._follow(source, changed))
            if self.toggle is not None:
                group.create_task(self._follow_toggle(self.toggle, changed))
        await asyncio.Event().wait()

    async def _follow(self, source: Source, changed: Callable[[Service], None]) -> None:
        async for unusable in source.follow():
            if unusable:
                self._emit(ConfigurationUnusable(self.name))
            if self.heard:
                self._answered.set()
            self._look(source.config if len(self._sources) == 1 else self._resolve().config)
            changed(self)

    async def _follow_toggle(self, toggle: Toggle, changed: Callable[[Service], None]) -> None:
        last: str | None = None
        async for drawn in toggle.draws:
            before = self._toggled
            if drawn.watcher not in (None, last, *self.own.watchers):
                self._emit(WatcherUnknown(self.name, str(drawn.watcher)))
            last = drawn.watcher
            self._toggled, problems = adopted(drawn, before, self.own.watchers)
            self._tell("toggle", tuple(f"service {self.name}: {toggle.url}: {one}" for one in problems))
            if self._toggled != before:
                self._look(self._resolve().config)
                changed(self)

    def _look(self, config: str) -> None:
        if config != self.config:
            self._configure(config)

    def _resolve(self) -> Resolved:
        found = {}
        for source in self._sources:
            found[source.name], selection = source.select(self.settings)
            self._tell(f"entry {source.name}", selection.problems)
        resolved = resolve(self.settings.resolver, found, self._toggled)
        if resolved.watcher != self._chosen:
            self._chosen = resolved.watcher
            method = self.settings.resolver.method if self.settings.resolver else ""
            if resolved.watcher is not None and any(one.heard for one in self._sources):
                self._emit(WatcherChosen(self.name, resolved.watcher, len(resolved.entry.instances), method))
        return resolved

    def _configure(self, config: str) -> None:
        """Takes the registry's configuration, unless the service could not be served with it; "" is the file's own."""
        overlaid = overlay(self.name, self.own, config.encode(), self._around.outputs)
        faults = self._around.faults(self.name, overlaid.service)
        self._tell("config", (*overlaid.problems, *(f"{one} (in the registry's configuration)" for one in faults)))
        self.config = config
        if not faults and overlaid.service != self.settings:
            self.settings = overlaid.service

    def _tell(self, about: str, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self._told.get(about, ()):
                self._emit(Warn(problem))
        self._told[about] = problems
