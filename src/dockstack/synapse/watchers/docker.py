"""The method `docker`: the published ports of the running containers of an image, on one or several engines."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

from dockstack.docker import engine
from dockstack.docker.containers import Container, Picture, Published
from dockstack.events import Emit
from dockstack.model import Address, Instance
from dockstack.registry import Snapshot
from dockstack.runtime.latest import Latest
from dockstack.runtime.scope import servants
from dockstack.settings.discovery import DockerDiscovery, DockerServer
from dockstack.synapse.watchers import Sessions, Watcher

PATIENCE = 3.0
"""Seconds that the engines are waited for at the start: shorter than the daemon's own grace. Those that have answered
until then are served, and the others are named."""

SHORTEST = 0.5
"""Seconds between two looks at the least, where an engine gives no events."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine is asked (`url`), and under which host its ports are reached; None: on this host."""

    url: str
    host: str | None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class DockerWatcher:
    """Follows the engines. `interval`: seconds between two looks at an engine that gives no events."""

    engines: tuple[Engine, ...]
    image: str
    port: int
    interval: float
    emit: Emit
    patience: float = PATIENCE

    async def follow(self) -> AsyncIterator[Snapshot]:
        """What all engines have, once each has answered, and after each change; an engine that is lost keeps what it
        had. Those that have not answered within `patience` seconds are missing, by name, until they do."""
        pictures: tuple[Latest[Picture], ...] = tuple(Latest() for _ in self.engines)
        news = asyncio.Event()
        async with servants() as tasks:
            for one, slot in zip(self.engines, pictures, strict=True):
                tasks.create_task(engine.follow(one.url, slot, self.emit, poll=max(SHORTEST, self.interval)))
                tasks.create_task(_ring(slot, news))
            await self._patiently(pictures, news)
            last = None
            while True:
                news.clear()
                found = [(one, slot.peek()) for one, slot in zip(self.engines, pictures, strict=True)]
                snapshot = together(found, self.image, self.port)
                if snapshot != last and any(picture is not None for _, picture in found):
                    last = snapshot
                    yield snapshot
                await news.wait()

    async def _patiently(self, pictures: tuple[Latest[Picture], ...], news: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self.patience):
                while any(slot.peek() is None for slot in pictures):
                    news.clear()
                    await news.wait()
        except TimeoutError:
            pass


async def _ring(slot: Latest[Picture], news: asyncio.Event) -> None:
    async for _ in slot:
        news.set()


def together(found: Iterable[tuple[Engine, Picture | None]], image: str, port: int) -> Snapshot:
    """The instances on the engines, in the order of these and by port there; None is an engine that is not known yet.

    Pure.
    """
    instances: list[Instance] = []
    problems: list[str] = []
    for one, picture in found:
        if picture is None:
            problems.append(f"Docker: the engine at {one.url} has not answered yet; its containers are not served")
            continue
        containers = [each for each in picture.containers.values() if each.running and repository(each.image) == image]
        addresses: list[Address] = []
        for container in containers:
            try:
                addresses += _address(container, one.host, port)
            except ValueError as error:
                problems.append(f"Docker: {one.url}: the container {container.name} is left out: {error}")
        instances += (Instance(address.host, str(address.port), one.name) for address in sorted(addresses))
    return Snapshot(tuple(instances), b"", tuple(sorted(problems)))


def repository(image: str) -> str:
    """The image's name without tag and digest; a colon before a slash belongs to the host of a registry."""
    name, _, _ = image.partition("@")
    path, slash, last = name.rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


def _address(container: Container, host: str | None, port: int) -> tuple[Address, ...]:
    """Where the port is reached; nothing where it is not published. Raises ValueError where nobody here reaches it."""
    published = [one for one in container.published if one.port == port and one.protocol == "tcp"]
    if not published:
        return ()
    six = host is not None and ":" in host
    published.sort(key=lambda one: ((":" in one.host_ip) != six, one.host_ip, one.host_port))
    if host is None:
        return (_local(published[0]),)
    for one in published:
        if not ipaddress.ip_address(one.host_ip).is_loopback:
            return (Address(host, one.host_port),)
    raise ValueError(f"its port {port} is published on {published[0].host_ip} alone, which only its own host reaches")


def _local(published: Published) -> Address:
    address = ipaddress.ip_address(published.host_ip)
    own = "::1" if address.version == 6 else "127.0.0.1"
    return Address(own if address.is_unspecified else str(address), published.host_port)


def engine_of(server: DockerServer, environment: Mapping[str, str]) -> Engine:
    """Where the engine is. Raises ConfigurationError where DOCKER_HOST is needed and is no address of one."""
    if server.host is not None:
        return Engine(
            f"tcp://{Address(server.host.strip('[]'), int(server.port))}", server.host.strip("[]"), server.name
        )
    url = engine.named(environment)
    remote = None if url.startswith("unix://") else url.partition("://")[2].rpartition(":")[0].strip("[]")
    return Engine(url, remote, server.name)


def build(settings: DockerDiscovery, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher of an image. Raises ConfigurationError where DOCKER_HOST is needed and cannot be read."""
    engines = tuple(engine_of(server, os.environ) for server in settings.servers)
    return DockerWatcher(engines, settings.image_name, int(settings.container_port), settings.check_interval, emit)
