"""All services and their watchers: from what they see to the one picture that is to be served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from dockstack import plugins
from dockstack.events import Emit, Note, Warn
from dockstack.model import Catalog, Entry
from dockstack.runtime.latest import Latest
from dockstack.settings.synapse import ServiceHaproxy, SynapseService, SynapseSettings
from dockstack.synapse.generator import OUTPUTS
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.service import Service, Surroundings
from dockstack.synapse.snapshot import Part, Saved
from dockstack.synapse.watchers import Sessions, Watcher


class World:
    """The services of a file. Raises ConfigurationError where a watcher cannot be made of its settings.

    Without a `haproxy` section no service has anything to do with it: what it says about HAProxy is idle.
    """

    def __init__(self, layout: Layout, settings: SynapseSettings, sessions: Sessions, emit: Emit) -> None:
        self._layout = layout
        self._emit = emit
        outputs = frozenset(name for name in OUTPUTS if getattr(settings, name) is not None)
        services = {
            name: own if settings.haproxy else own.model_copy(update={"haproxy": ServiceHaproxy(disabled=True)})
            for name, own in settings.services.items()
        }
        self._listeners = {bind: name for name, own in services.items() for bind in layout.look(name, own).binds}
        around = Surroundings(outputs, self._faults)
        self._services = {
            name: Service(name, own, _watchers(name, own, sessions, emit), around, emit)
            for name, own in services.items()
        }

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
        return self._services[service].parts

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
        silent = set(self._services)
        all_heard = asyncio.Event()
        picture: Picture | None = None

        def changed(service: Service) -> None:
            nonlocal picture
            if service.heard:
                silent.discard(service.name)
            if picture is None:
                if not silent:
                    all_heard.set()
                return
            if picture.services[service.name] is not service.settings:
                picture = picture.with_service(service.name, service.settings)
            picture = picture.with_entry(service.name, service.entry())
            pictures.put(picture)

        async with asyncio.TaskGroup() as group:
            for service in self._services.values():
                group.create_task(service.follow(changed))
            if silent:
                with suppress(TimeoutError):
                    async with asyncio.timeout(grace):
                        await all_heard.wait()
            if silent:
                which = ", ".join(sorted(silent))
                self._emit(Warn(f"no answer yet about {which}: what was saved, or the default servers, is served"))
            else:
                self._emit(Note(f"every watcher has answered; services: {len(self._services)}"))
            entries = {name: service.entry() for name, service in self._services.items() if service.known}
            picture = Picture(self._layout, self._settings(), Catalog(MappingProxyType(entries)))
            pictures.put(picture)

    def _settings(self) -> Mapping[str, SynapseService]:
        return MappingProxyType({name: service.settings for name, service in self._services.items()})

    def _faults(self, name: str, changed: SynapseService) -> tuple[str, ...]:
        """Why a service cannot stand beside the others with these settings; if it can, its addresses are its own."""
        look = self._layout.look(name, changed)
        taken = [(bind, self._listeners.get(bind, name)) for bind in sorted(look.binds)]
        faults = [*look.problems]
        faults += [f"service {name}: service {other} listens on {bind}" for bind, other in taken if other != name]
        if not faults:
            for bind in [bind for bind, owner in self._listeners.items() if owner == name]:
                del self._listeners[bind]
            self._listeners |= dict.fromkeys(look.binds, name)
        return tuple(faults)


def _watchers(name: str, own: SynapseService, sessions: Sessions, emit: Emit) -> Mapping[str, Watcher]:
    made: dict[str, Watcher] = {}
    for watcher, discovery in own.watchers.items():
        where = f"services.{name}.discovery.method" if not watcher else f"services.{name}, watcher {watcher}: method"
        made[watcher] = plugins.load("watchers", discovery.method, where)(discovery, sessions, emit)
    return made
