"""A small Docker engine in the test's event loop: it answers what we ask of one, and nothing but GET.

Containers are entries in a table; `run`, `stop`, `pause` … change it as an engine does and send the events that a
docker.io 20.10 was seen to send, in its order. A published port is a new one at each start.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.servers.ports import free_port

API = "1.41"


@dataclass
class Box:
    """One container of the table. `wanted`: its ports to publish, `3306/tcp` → fixed host ports (0: any)."""

    id: str
    name: str
    image: str
    wanted: dict[str, list[tuple[str, int]]]
    labels: dict[str, str]
    env: list[str]
    networks: dict[str, tuple[str, str]]
    network_mode: str = "default"
    stop_signal: str | None = None
    stop_timeout: int | None = None
    health: str | None = None
    state: str = "created"
    started: str = "0001-01-01T00:00:00Z"
    published: dict[str, list[dict[str, str]] | None] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """As GET /containers/ID/json has it."""
        state: dict[str, Any] = {"Status": self.state, "Running": self.state == "running", "StartedAt": self.started}
        if self.health:
            state["Health"] = {"Status": self.health}
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Image": "sha256:0",
            "State": state,
            "HostConfig": {"NetworkMode": self.network_mode},
            "Config": {
                "Image": self.image,
                "Labels": self.labels,
                "Env": self.env,
                "ExposedPorts": {port: {} for port in self.wanted} or None,
                **({"StopSignal": self.stop_signal} if self.stop_signal else {}),
                **({"StopTimeout": self.stop_timeout} if self.stop_timeout is not None else {}),
            },
            "NetworkSettings": {
                "Ports": self.published,
                "Networks": {
                    name: {"IPAddress": v4 if self.up else "", "GlobalIPv6Address": v6 if self.up else ""}
                    for name, (v4, v6) in self.networks.items()
                },
            },
        }

    def listed(self) -> dict[str, Any]:
        """As an entry of GET /containers/json has it."""
        ports = [
            {"IP": one["HostIp"], "PrivatePort": int(port.split("/")[0]), "PublicPort": int(one["HostPort"])}
            for port, bindings in self.published.items()
            for one in bindings or ()
        ]
        health = f" ({'health: starting' if self.health == 'starting' else self.health})" if self.health else ""
        return {
            "Id": self.id,
            "Names": [f"/{self.name}"],
            "Image": self.image,
            "Labels": self.labels,
            "State": self.state,
            "Status": f"Up 3 seconds{health}" if self.up else "Exited (0) 2 seconds ago",
            "Ports": ports,
            "NetworkSettings": {
                "Networks": {name: {"IPAddress": v4 if self.up else ""} for name, (v4, _) in self.networks.items()}
            },
        }

    @property
    def up(self) -> bool:
        return self.state in ("running", "paused")


class FakeEngine:
    """On a Unix socket in `directory` and on a TCP port of 127.0.0.1 while the context is open.

    `mute`: what happens is not told as an event. `events` false: GET /events is forbidden, as a proxy may have it.
    `slow`: seconds before each answer but events; `late`: between what an answer says and its arrival. `broken`: ids
    whose description is an error 500.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "docker.sock"
        self.port = free_port()
        self.mute = False
        self.events = True
        self.slow = 0.0
        self.late = 0.0
        self.broken: set[str] = set()
        self.boxes: dict[str, Box] = {}
        self.requests: list[tuple[str, str]] = []
        self.opened = 0  # streams of events so far
        self._streams: set[asyncio.Queue[bytes | None]] = set()
        self._runner: web.AppRunner | None = None
        self._numbers = itertools.count(1)
        self._ports = itertools.count(49153)

    @property
    def unix(self) -> str:
        return f"unix://{self.path}"

    @property
    def tcp(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def watchers(self) -> int:
        """How many streams of events are open."""
        return len(self._streams)

    # containers

    def create(
        self,
        name: str,
        ports: Mapping[int | str, int] | Sequence[int] = (),
        *,
        image: str = "image",
        labels: Mapping[str, str] | None = None,
        env: Sequence[str] = (),
        networks: Mapping[str, tuple[str, str]] | None = None,
        host_ips: Sequence[str] = ("0.0.0.0", "::"),
        exposed: Sequence[int] = (),
        **more: Any,
    ) -> Box:
        """`ports` are published on each of `host_ips`: the container's to the host's (0: any)."""
        fixed = dict(ports) if isinstance(ports, Mapping) else dict.fromkeys(ports, 0)
        wanted = {f"{port}" if "/" in str(port) else f"{port}/tcp": n for port, n in fixed.items()}
        box = Box(
            id=f"{next(self._numbers):064x}"[::-1],
            name=name,
            image=image,
            wanted={port: [(ip, number) for ip in host_ips] for port, number in wanted.items()}
            | {f"{port}/tcp": [] for port in exposed},
            labels=dict(labels or {}),
            env=list(env),
            networks={"bridge": ("172.17.0.2", "")} if networks is None else dict(networks),
            **more,
        )
        self.boxes[name] = box
        self._tell(box, "create")
        return box

    def run(self, name: str, ports: Mapping[int | str, int] | Sequence[int] = (), **more: Any) -> Box:
        box = self.create(name, ports, **more)
        self.start(name)
        return box

    def start(self, name: str) -> None:
        box = self.boxes[name]
        self._up(box)
        for network in box.networks:
            self._tell_network(box, network, "connect")
        self._tell(box, "start")

    def signal(self, name: str, number: int) -> None:
        """`docker kill -s`: the container goes on until `die`."""
        self._tell(self.boxes[name], "kill", signal=str(number))

    def die(self, name: str) -> None:
        """The process ends."""
        box = self.boxes[name]
        box.state, box.published = "exited", {}
        self._tell(box, "die", exitCode="0")
        for network in box.networks:
            self._tell_network(box, network, "disconnect")

    def stop(self, name: str) -> None:
        self.signal(name, 15)
        self.die(name)
        self._tell(self.boxes[name], "stop")

    def restart(self, name: str) -> None:
        self.stop(name)
        self.start(name)
        self._tell(self.boxes[name], "restart")

    def pause(self, name: str) -> None:
        self.boxes[name].state = "paused"
        self._tell(self.boxes[name], "pause")

    def unpause(self, name: str) -> None:
        self.boxes[name].state = "running"
        self._tell(self.boxes[name], "unpause")

    def heal(self, name: str, health: str) -> None:
        """The HEALTHCHECK's state is now this."""
        self.boxes[name].health = health
        self._tell(self.boxes[name], f"health_status: {health}")

    def reconnect(self, name: str) -> None:
        """`docker network disconnect` and `connect`: other published ports, the same run."""
        box = self.boxes[name]
        started = box.started
        box.published = {}
        for network in box.networks:
            self._tell_network(box, network, "disconnect")
        self._up(box)
        box.started = started
        for network in box.networks:
            self._tell_network(box, network, "connect")

    def rename(self, name: str, new: str) -> None:
        box = self.boxes[new] = self.boxes.pop(name)
        box.name = new
        self._tell(box, "rename")

    def remove(self, name: str) -> None:
        """`docker rm -f`."""
        box = self.boxes[name]
        if box.up:
            self.signal(name, 9)
            self.die(name)
        del self.boxes[name]
        self._tell(box, "destroy")

    def exec(self, name: str) -> None:
        """What a HEALTHCHECK or a `docker exec` causes: events that change nothing."""
        for action in ("exec_create: true", "exec_start: true", "exec_die"):
            self._tell(self.boxes[name], action)

    def _up(self, box: Box) -> None:
        box.state, box.started = "running", f"2024-01-01T00:00:00.{next(self._numbers):09d}Z"
        box.published = {
            port: [{"HostIp": ip, "HostPort": str(number or next(self._ports))} for ip, number in wanted] or None
            for port, wanted in box.wanted.items()
        }

    def _tell(self, box: Box, action: str, **attributes: str) -> None:
        attributes = {"name": box.name, "image": box.image, **attributes, **box.labels}
        self._send({"Type": "container", "Action": action, "Actor": {"ID": box.id, "Attributes": attributes}})

    def _tell_network(self, box: Box, network: str, action: str) -> None:
        actor = {"ID": f"net-{network}", "Attributes": {"container": box.id, "name": network, "type": "bridge"}}
        self._send({"Type": "network", "Action": action, "Actor": actor})

    def _send(self, event: dict[str, Any]) -> None:
        if not self.mute:
            for stream in self._streams:
                stream.put_nowait(json.dumps({**event, "scope": "local", "time": 1}).encode() + b"\n")

    # the server

    async def start_server(self) -> None:
        app = web.Application(middlewares=[self._only_get])
        for path, handler in (
            ("/_ping", self._ping),
            ("/version", self._version),
            ("/containers/json", self._list),
            ("/containers/{id}/json", self._inspect),
            ("/events", self._stream),
        ):
            app.router.add_get(path, handler)
            app.router.add_get(f"/v{API}{path}", handler)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop_server(self, *, containers: bool = False) -> None:
        """The engine goes away; with `containers` they end with it, and nobody tells."""
        if containers:
            for box in self.boxes.values():
                box.state, box.published = "exited", {}
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.path.unlink(missing_ok=True)

    def cut(self) -> None:
        """Ends all streams of events."""
        for stream in self._streams:
            stream.put_nowait(None)

    async def __aenter__(self) -> Self:
        await self.start_server()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_server()

    @web.middleware
    async def _only_get(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path.removeprefix(f"/v{API}")))
        if request.method != "GET":
            return web.Response(status=403, text="only GET is allowed here")
        if self.slow and not request.path.endswith("/events"):
            await asyncio.sleep(self.slow)
        answer: web.StreamResponse = await handler(request)
        await asyncio.sleep(self.late)
        return answer

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="OK")

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"Version": "20.10.24", "ApiVersion": API})

    async def _list(self, request: web.Request) -> web.Response:
        every = request.query.get("all") in ("1", "true", "True")
        return web.json_response([box.listed() for box in self.boxes.values() if every or box.up])

    async def _inspect(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        if wanted in self.broken:
            return web.json_response({"message": "layer does not exist"}, status=500)
        for box in self.boxes.values():
            if wanted in (box.id, box.name):
                return web.json_response(box.described())
        return web.json_response({"message": f"No such container: {wanted}"}, status=404)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if not self.events:
            return web.Response(status=403, text="Forbidden")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        stream: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._streams.add(stream)
        self.opened += 1
        try:
            with contextlib.suppress(ConnectionError):
                while (line := await stream.get()) is not None:
                    await response.write(line)
        finally:
            self._streams.discard(stream)
        return response
