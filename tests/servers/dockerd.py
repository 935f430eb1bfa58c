"""A Docker engine as its API shows it (1.41): containers that are put there, on a Unix socket or a port, no more."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Ports = Mapping[str, list[tuple[str, int]]]
"""From `80/tcp` to the addresses and ports of the host."""

_VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux"}


@dataclass
class Running:
    """A container: what the engine says of it."""

    name: str
    image: str
    ports: Ports = field(default_factory=dict)
    state: str = "running"
    starts: int = 1


class Dockerd:
    """Serves the five GET requests while the context is open, at a port of 127.0.0.1 or at a Unix socket.

    `silent`: the events may not be read, as behind a proxy that forbids it.
    """

    def __init__(self, at: int | Path, *, silent: bool = False) -> None:
        self.silent = silent
        self.asked: list[str] = []
        self._at = at
        self._containers: dict[str, Running] = {}
        self._streams: set[asyncio.Queue[bytes]] = set()
        self._numbers = count(1)
        self._runner: web.AppRunner | None = None

    @property
    def listeners(self) -> int:
        """How many read the events."""
        return len(self._streams)

    def run(self, name: str, image: str, ports: Ports | None = None) -> str:
        """Starts a container; its id."""
        one = f"{next(self._numbers):064x}"
        self._containers[one] = Running(name, image, ports or {})
        self._say(one, "create")
        self._say(one, "start")
        return one

    def restart(self, one: str, ports: Ports) -> None:
        """Ends it and starts it again, with other ports."""
        container = self._containers[one]
        self.signal(one, 15)
        self._say(one, "die")
        container.ports, container.starts = ports, container.starts + 1
        self._say(one, "start")

    def signal(self, one: str, number: int) -> None:
        """Sends a signal, and no more: it goes on running."""
        self._say(one, "kill", signal=str(number))

    def stop(self, one: str) -> None:
        """It has ended by itself."""
        self._containers[one].state, self._containers[one].ports = "exited", {}
        self._say(one, "die")

    def remove(self, one: str) -> None:
        """It is gone, without a word where the events are silent."""
        del self._containers[one]
        self._say(one, "destroy")

    def _say(self, one: str, action: str, **attributes: str) -> None:
        event = {"Type": "container", "Action": action, "Actor": {"ID": one, "Attributes": attributes}}
        for stream in self._streams:
            stream.put_nowait(json.dumps(event).encode() + b"\n")

    async def open(self) -> None:
        """Answers from now on."""
        app = web.Application()
        for prefix in ("", "/{version:v[0-9.]+}"):
            app.router.add_get(f"{prefix}/version", self._version)
            app.router.add_get(f"{prefix}/_ping", self._version)
            app.router.add_get(f"{prefix}/containers/json", self._list)
            app.router.add_get(f"{prefix}/containers/{{id}}/json", self._inspect)
            app.router.add_get(f"{prefix}/events", self._events)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self._runner.setup()
        site: web.BaseSite
        if isinstance(self._at, int):
            site = web.TCPSite(self._runner, "127.0.0.1", self._at)
        else:
            site = web.UnixSite(self._runner, str(self._at))
        await site.start()

    async def close(self) -> None:
        """Answers nobody any more, and ends all connections; the containers stay."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response(_VERSION)

    async def _list(self, request: web.Request) -> web.Response:
        self.asked.append("list")
        return web.json_response([_entry(one, container) for one, container in self._containers.items()])

    async def _inspect(self, request: web.Request) -> web.Response:
        one = request.match_info["id"]
        if one not in self._containers:
            return web.json_response({"message": f"No such container: {one}"}, status=404)
        return web.json_response(_description(one, self._containers[one]))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self.silent:
            return web.json_response({"message": "forbidden"}, status=403)
        stream: asyncio.Queue[bytes] = asyncio.Queue()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._streams.add(stream)
        try:
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(await stream.get())
        finally:
            self._streams.discard(stream)
        return response

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _entry(one: str, container: Running) -> dict[str, Any]:
    ports = [
        {"IP": host, "PrivatePort": int(key.partition("/")[0]), "PublicPort": port, "Type": key.partition("/")[2]}
        for key, bindings in container.ports.items()
        for host, port in bindings
    ]
    return {
        "Id": one,
        "Names": [f"/{container.name}"],
        "Image": container.image,
        "Ports": ports,
        "Labels": {},
        "State": container.state,
        "Status": "Up 1 second" if container.state == "running" else "Exited (0) 1 second ago",
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    }


def _description(one: str, container: Running) -> dict[str, Any]:
    ports = {
        key: [{"HostIp": host, "HostPort": str(port)} for host, port in bindings] or None
        for key, bindings in container.ports.items()
    }
    return {
        "Id": one,
        "Name": f"/{container.name}",
        "State": {
            "Status": container.state,
            "Running": container.state == "running",
            "StartedAt": f"2026-01-01T00:00:{container.starts:02}Z",
        },
        "Config": {"Image": container.image, "Env": [], "Labels": {}, "ExposedPorts": {key: {} for key in ports}},
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Ports": ports, "Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    }
