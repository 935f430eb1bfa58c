"""Gives services of containers their address, from the picture of all containers; says why where one has none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dockstack.docker import engine
from dockstack.docker.address import where
from dockstack.docker.containers import Container, Picture
from dockstack.errors import ConfigurationError
from dockstack.events import Emit, Event, Recovered, Retrying
from dockstack.nerve.roster import Roster
from dockstack.nerve.service import Absence, Look, Service, probes
from dockstack.runtime.latest import Latest
from dockstack.runtime.scope import servants
from dockstack.settings.nerve import ContainerService, DockerCheck, NerveSettings


def needs_engine(settings: NerveSettings) -> bool:
    """Whether a service asks for a container."""
    return any(
        isinstance(service, ContainerService) or any(isinstance(check, DockerCheck) for check in service.checks)
        for service in settings.services.values()
    )


def placed(services: Iterable[Service], look: Look, own: str | None, before: Mapping[str, Service]) -> list[Service]:
    """The services as they are now; one that has not changed is the same object as `before`.

    `own` is the id of nerve's own container, if it is in one. While there is no picture the services of containers are
    as they are given: nothing is known of them.
    """
    picture = look()
    if picture is None:
        return list(services)
    view = _View(look, picture, None if own is None else picture.find(own))
    found = (
        _placed(one, one.settings, view) if isinstance(one.settings, ContainerService) else one for one in services
    )
    return [_ready(one, view, before.get(one.name)) for one in found]


@dataclass(frozen=True, slots=True)
class _View:
    look: Look
    picture: Picture
    own: Container | None


def _placed(service: Service, settings: ContainerService, view: _View) -> Service:
    """The service with its address or the reason why it has none; the checks are those of before."""
    what = f"container {settings.container}"
    container = view.picture.find(settings.container)
    if container is None:
        return replace(service, absence=Absence(what, "does not exist; it is waited for"))
    if container.plight is not None:
        return replace(service, absence=Absence(what, container.plight))
    try:
        address = where(settings.advertise, settings.host, view.own)(container, int(settings.container_port))
    except ValueError as error:
        return replace(service, absence=Absence(what, str(error), fault=True))
    instance = replace(service.registration.instance, host=address.host, port=address.port)
    registration = replace(service.registration, instance=instance)
    run = f"{container.id} {container.started}"
    return replace(service, registration=registration, absence=None, run=run)


def _ready(service: Service, view: _View, before: Service | None) -> Service:
    if service == before:
        return before
    if not service.run:
        return service
    try:
        return replace(service, probes=probes(service.name, service.settings, service.address, view.look))
    except ConfigurationError as error:
        return replace(service, run="", absence=Absence("its checks", f"cannot be made: {error}", fault=True))


class Placer:
    """Keeps a roster equal to what the configuration wants, at the addresses that containers have now.

    `own` is the id of nerve's own container, if it is in one.
    """

    def __init__(self, roster: Roster, pictures: Latest[Picture], own: str | None, emit: Emit) -> None:
        self._roster = roster
        self._pictures = pictures
        self._own = own
        self._emit = emit
        self._wanted: tuple[Service, ...] = ()
        self._now: dict[str, Service] = {}
        self._needed = asyncio.Event()
        self._host: str | None = None
        self._trouble: str | None = None

    def change(self, settings: NerveSettings, services: tuple[Service, ...]) -> None:
        """Makes these the services that are looked after; `services` is the plan of the settings."""
        self._wanted = services
        if needs_engine(settings):
            self.need_engine()
        self._look_again()

    def need_engine(self) -> None:
        """Has the engine followed, whatever the services of the configuration are."""
        self._needed.set()

    async def follow(self, host: str) -> None:
        """Follows the Docker engine at `host` over one connection for all services, once one of them needs it."""
        await self._needed.wait()
        self._host = host
        async with servants() as tasks:
            tasks.create_task(engine.follow(host, self._pictures, self._told))
            async for _ in self._pictures:
                self._look_again()

    def states(self) -> Mapping[str, str]:
        """The engine by its address, and whether it is followed; nothing where no service needs it."""
        if self._host is None:
            return {}
        if self._trouble is not None:
            return {self._host: f"not followed: {self._trouble}"}
        return {self._host: "followed" if self._pictures.version else "not answered yet"}

    def _told(self, event: Event) -> None:
        if isinstance(event, Retrying | Recovered):
            self._trouble = event.error if isinstance(event, Retrying) else None
        self._emit(event)

    def _look_again(self) -> None:
        now = placed(self._wanted, self._pictures.peek, self._own, self._now)
        self._now = {service.name: service for service in now}
        self._roster.change(now)
