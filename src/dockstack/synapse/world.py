"""All services and their watchers: from what they see to the one picture that is to be served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from types import MappingProxyType

from dockstack import plugins
from dockstack.events import Emit, Event, Warn
from dockstack.model import Catalog, Entry
from dockstack.registry import Locator, Registry
from dockstack.registry.pool import Pool
from dockstack.runtime.latest import Latest
from dockstack.runtime.loops import beats
from dockstack.settings.discovery import PluginDiscovery
from dockstack.settings.load import unfit
from dockstack.settings.multi import S3ToggleResolver
from dockstack.settings.synapse import ServiceHaproxy, SynapseService, SynapseSettings
from dockstack.synapse import guests
from dockstack.synapse.events import (
    AllAnswered,
    ConfigurationChanged,
    Discovered,
    Pinged,
    Unresolved,
    WatcherStarted,
    WatcherStopped,
)
from dockstack.synapse.generator import OUTPUTS
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.service import Service, Surroundings
from dockstack.synapse.snapshot import Part, Saved
from dockstack.synapse.toggle import Toggle
from dockstack.synapse.watchers import Watcher

PING = 1.0
"""Seconds between two looks whether the watchers have answered, as SmartStack counts them."""

LOOKS = 10
"""Looks that are told together: 1,000 services need not be counted each second for the same sums."""


@dataclass(frozen=True, slots=True)
class Change:
    """Other settings, and the services of them that are new or have others; their watchers are at work already."""

    layout: Layout
    services: Mapping[str, Service]
    fresh: Mapping[str, Service]


class World:
    """The services of a file. Raises ConfigurationError where a watcher cannot be made of its settings.

    Without a `haproxy` section no service has anything to do with it: what it says about HAProxy is idle.
    """

    def __init__(self, layout: Layout, settings: SynapseSettings, pool: Pool, emit: Emit) -> None:
        self._layout = layout
        self._pool = pool
        self._emit = emit
        self._around = Surroundings(_outputs(settings), self._faults)
        self._toggles: dict[S3ToggleResolver, Toggle] = {}
        self._reading: dict[Toggle, asyncio.Task[None]] = {}
        self._used: dict[Service, set[Locator]] = {}
        self._services: Mapping[str, Service] = {
            name: self._service(name, own) for name, own in _services(settings).items()
        }
        self._listeners = _listeners(layout, self._services)
        self._pictures: Latest[Picture] = Latest()
        self._picture: Picture | None = None
        self._tasks: asyncio.TaskGroup
        self._following: dict[Service, asyncio.Task[None]] = {}

    @property
    def trouble(self) -> tuple[str, ...]:
        """What an operator should know about the services, in sentences."""
        each = self._services.values()
        silent = [f"service {who} has not answered yet" for one in each for who in one.silent]
        return (*silent, *(problem for one in each for problem in one.problems))

    @property
    def choices(self) -> tuple[str, ...]:
        """Which watcher serves each service that can choose, in sentences."""
        return tuple(one.choice for one in self._services.values() if one.choice is not None)

    def parts(self, service: str) -> Mapping[str, Part]:
        """What a restart must know of each watcher of a service: its instances and the registry's configuration."""
        found = self._services.get(service)
        return {} if found is None else found.parts

    def config(self, service: str) -> str:
        """The configuration that the registry has for a service, as text."""
        return self._services[service].config

    def restore(self, saved: Mapping[str, Saved]) -> None:
        """Begins with what the last run knew of these services."""
        for name, one in saved.items():
            self._services[name].restore(one.parts)

    def stand_in(self, entries: Mapping[str, Entry]) -> None:
        """What is served as long as nothing else is known about a service."""
        for name, entry in entries.items():
            if name in self._services:
                self._services[name].stand_in(entry)

    async def follow(self, pictures: Latest[Picture], grace: float) -> None:
        """Puts the first picture when every watcher has answered, or `grace` seconds are over; then at every change."""
        self._pictures = pictures
        began = monotonic()
        async with asyncio.TaskGroup() as self._tasks:
            self._begin(self._services)
            if await self._answered(self._services, grace):
                self._emit(AllAnswered(monotonic() - began, len(self._services)))
            entries = {name: service.entry() for name, service in self._services.items() if service.known}
            self._put(Picture(self._layout, self._settings(), Catalog(MappingProxyType(entries))))

    async def prepared(self, layout: Layout, settings: SynapseSettings, grace: float) -> Change:
        """Makes ready for other settings, while the old ones go on: what is new follows its registry already.

        Returns when each of these watchers has answered, or `grace` seconds are over. A service with the same settings
        is not touched; a watcher that looks for the same as before begins with what was known. Raises
        ConfigurationError, and nothing has changed then. Only after the first picture, and one call at a time.
        """
        old = self._services
        owns = _services(settings)
        fresh = {
            name: self._service(name, own) for name, own in owns.items() if name not in old or old[name].own != own
        }
        services = {name: fresh.get(name) or old[name] for name in owns}
        self._layout = layout
        self._listeners = _listeners(layout, services)
        for name, one in fresh.items():
            if name in old:
                one.succeed(old[name])
        self._begin(fresh)
        await self._answered(fresh, grace)
        return Change(layout, services, fresh)

    def take(self, change: Change) -> None:
        """These settings count from now on, in one picture with all that is known of their services."""
        assert self._picture is not None
        before, entries = self._services, dict(self._picture.catalog.entries)
        self._services = change.services
        for name, service in before.items():
            if change.services.get(name) is not service:
                self._following.pop(service).cancel()
                self._emit(WatcherStopped(name, len(service.own.watchers) > 1))
                entries.pop(name, None)
        self._end_toggles()
        self._used = {service: self._used[service] for service in self._services.values()}
        self._pool.keep_only(frozenset(one for used in self._used.values() for one in used))
        entries |= {name: one.entry() for name, one in change.fresh.items() if one.known}
        ordered = {name: entries[name] for name in self._services if name in entries}
        self._put(Picture(change.layout, self._settings(), Catalog(MappingProxyType(ordered))))

    async def ping(self) -> None:
        """Tells whose watchers have answered, for ever."""
        async for _ in beats(PING * LOOKS, PING):
            heard = {name: service.heard for name, service in self._services.items()}
            answered = tuple(name for name, has in heard.items() if has)
            self._emit(Pinged(answered, tuple(name for name, has in heard.items() if not has), LOOKS))

    def tell_end(self) -> None:
        """Tells that no service is followed any more."""
        for name, service in self._services.items():
            self._emit(WatcherStopped(name, len(service.own.watchers) > 1))

    def _service(self, name: str, own: SynapseService) -> Service:
        sessions = _SessionsOf(self._pool, name, set())
        watchers = _watchers(name, own, sessions, self._emit)
        service = Service(name, own, watchers, self._around, self._emit, toggle=self._toggle(own))
        self._used[service] = sessions.used
        return service

    def _toggle(self, own: SynapseService) -> Toggle | None:
        """The one toggle of all services that read the same file at the same interval."""
        resolver = own.resolver
        if not isinstance(resolver, S3ToggleResolver):
            return None
        if resolver not in self._toggles:
            self._toggles[resolver] = Toggle(resolver, self._emit)
        return self._toggles[resolver]

    def _end_toggles(self) -> None:
        used = {service.toggle for service in self._services.values()}
        for resolver, toggle in list(self._toggles.items()):
            if toggle not in used:
                del self._toggles[resolver]
                if toggle in self._reading:
                    self._reading.pop(toggle).cancel()

    def _begin(self, services: Mapping[str, Service]) -> None:
        for service in services.values():
            if service.toggle is not None and service.toggle not in self._reading:
                self._reading[service.toggle] = self._tasks.create_task(service.toggle.run())
            self._following[service] = self._tasks.create_task(service.follow(self._changed))
            self._emit(WatcherStarted(service.name, len(service.own.watchers) > 1))

    async def _answered(self, services: Mapping[str, Service], grace: float) -> bool:
        """Whether the watchers of all of these have answered within `grace` seconds; says so when they have not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                for service in services.values():
                    await service.answered()
        silent = sorted(name for name, service in services.items() if not service.heard)
        if silent:
            what = "what was saved, or the default servers, is served"
            self._emit(Warn(f"no answer yet about {', '.join(silent)}: {what}"))
        return not silent

    def _changed(self, service: Service) -> None:
        picture = self._picture
        if picture is None or self._services.get(service.name) is not service:
            return
        if picture.services[service.name] is not service.settings:
            picture = picture.with_service(service.name, service.settings)
        self._put(picture.with_entry(service.name, service.entry()))

    def _put(self, picture: Picture) -> None:
        self._picture = picture
        self._pictures.put(picture)
        self._emit(ConfigurationChanged())

    def _settings(self) -> Mapping[str, SynapseService]:
        return MappingProxyType({name: service.settings for name, service in self._services.items()})

    def _faults(self, name: str, changed: SynapseService) -> tuple[str, ...]:
        """Why a service cannot stand beside the others with these settings; if it can, its addresses are its own."""
        look = self._layout.look(name, changed)
        taken = [(bind, self._listeners.get(bind, name)) for bind in sorted(look.binds)]
        faults = [f"service {name}: {key}: {why}" for key, why in unfit(changed.haproxy, self._layout.top)]
        faults += look.problems
        faults += [f"service {name}: service {other} listens on {bind}" for bind, other in taken if other != name]
        if not faults:
            for bind in [bind for bind, owner in self._listeners.items() if owner == name]:
                del self._listeners[bind]
            self._listeners |= dict.fromkeys(look.binds, name)
        return tuple(faults)


def _outputs(settings: SynapseSettings) -> frozenset[str]:
    return frozenset((*(name for name in OUTPUTS if getattr(settings, name) is not None), *settings.sections))


def _services(settings: SynapseSettings) -> Mapping[str, SynapseService]:
    if settings.haproxy is not None:
        return settings.services
    idle = {"haproxy": ServiceHaproxy(disabled=True)}
    return {name: own.model_copy(update=idle) for name, own in settings.services.items()}


def _listeners(layout: Layout, services: Mapping[str, Service]) -> dict[str, str]:
    return {bind: name for name, one in services.items() for bind in layout.look(name, one.settings).binds}


@dataclass(frozen=True, slots=True)
class _SessionsOf:
    """The pool's sessions, asked for in the name of a service. `used` are those that it has asked for."""

    pool: Pool
    service: str
    used: set[Locator]

    async def get(self, locator: Locator) -> Registry:
        self.used.add(locator)
        return await self.pool.get(locator, self.service)


def _watchers(name: str, own: SynapseService, sessions: _SessionsOf, emit: Emit) -> Mapping[str, Watcher]:
    made: dict[str, Watcher] = {}
    for watcher, discovery in own.watchers.items():
        where = f"services.{name}.discovery.method" if not watcher else f"services.{name}, watcher {watcher}: method"
        build = plugins.load("watchers", discovery.method, where)
        if isinstance(discovery, PluginDiscovery):
            made[watcher] = guests.watcher(build, discovery, sessions, where, _named(name, emit))
        else:
            made[watcher] = build(discovery, sessions, _named(name, emit))
    return made


def _named(service: str, emit: Emit) -> Emit:
    """For the watchers of a service, which do not know whose they are."""

    def tell(event: Event) -> None:
        emit(replace(event, service=service) if isinstance(event, Discovered | Unresolved) else event)

    return tell
