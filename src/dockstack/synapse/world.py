"""All services and their watchers: from what they see to the one picture that is to be served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from dockstack import plugins
from dockstack.events import Emit, Note, Warn
from dockstack.model import Catalog
from dockstack.runtime.latest import Latest
from dockstack.settings.synapse import SynapseService, SynapseSettings
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.service import Service
from dockstack.synapse.snapshot import Saved
from dockstack.synapse.watchers import Sessions, Watcher


class World:
    """The services of a file. Raises ConfigurationError where a watcher cannot be made of its settings."""

    def __init__(self, layout: Layout, settings: SynapseSettings, sessions: Sessions, emit: Emit) -> None:
        self._layout = layout
        self._emit = emit
        self._listeners = {
            bind: name for name, own in settings.services.items() for bind in layout.look(name, own).binds
        }
        self._services = {
            name: Service(name, own, _watcher(name, own, sessions, emit), self._faults, emit)
            for name, own in settings.services.items()
        }

    @property
    def trouble(self) -> tuple[str, ...]:
        """What an operator should know about the services, in sentences."""
        each = self._services.values()
        silent = [f"service {one.name}: its watcher has not answered yet" for one in each if not one.heard]
        return (*silent, *(problem for one in each for problem in one.problems))

    def config(self, service: str) -> str:
        """The configuration that the registry has for a service, as text."""
        return self._services[service].config

    def restore(self, saved: Mapping[str, Saved]) -> None:
        """Begins with what the last run knew of these services."""
        for name, one in saved.items():
            self._services[name].restore(one.entry, one.config)

    async def follow(self, pictures: Latest[Picture], grace: float) -> None:
        """Puts the first picture when every watcher has answered, or `grace` seconds are over; then at every change."""
        silent = set(self._services)
        all_heard = asyncio.Event()
        picture: Picture | None = None

        def changed(service: Service) -> None:
            nonlocal picture
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
            entries = {name: service.entry() for name, service in self._services.items()}
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


def _watcher(name: str, own: SynapseService, sessions: Sessions, emit: Emit) -> Watcher:
    build = plugins.load("watchers", own.discovery.method, f"services.{name}.discovery.method")
    watcher: Watcher = build(own.discovery, sessions, emit)
    return watcher
