"""The writer with a real HAProxy behind it, origins that answer with their name, and a client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockstack.events import Event
from dockstack.model import Entry, Instance
from dockstack.runtime.latest import Latest
from dockstack.settings.synapse import SynapseSettings
from dockstack.synapse.daemon import HAPROXY_FILE, HAPROXY_SOCKET, MASTER_SOCKET, Options, arrange
from dockstack.synapse.haproxy import process
from dockstack.synapse.haproxy.apply import Applier
from dockstack.synapse.haproxy.document import Picture
from dockstack.synapse.haproxy.drafts import Drafts
from dockstack.synapse.haproxy.file import File
from dockstack.synapse.haproxy.link import Link, from_file, open_link
from dockstack.synapse.haproxy.process import Place
from dockstack.synapse.names import Names
from tests.servers.ports import free_port
from tests.waiting import eventually

HTTP = ("mode http", "balance roundrobin", "option redispatch", "retries 3")
TCP = ("mode tcp",)


class Told(list[Event]):
    """All events, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[Callable[[Event], object]] = []

    def emit(self, event: Event) -> None:
        self.append(event)
        for listener in self.listeners:
            listener(event)

    def of(self, kind: type[Event]) -> list[Event]:
        return [one for one in self if isinstance(one, kind)]

    def texts(self) -> str:
        return "\n".join(map(str, self))


@dataclass
class Stand:
    """A place for one synapse: directories, and a port per service."""

    directory: Path
    binary: Path
    ports: dict[str, int] = field(default_factory=dict)
    told: Told = field(default_factory=Told)

    @property
    def options(self) -> Options:
        return Options(run_dir=self.directory, state_dir=self.directory, haproxy=self.binary, drain=0.1)

    @property
    def place(self) -> Place:
        return Place(self.directory / HAPROXY_FILE, self.directory / MASTER_SOCKET, self.directory / HAPROXY_SOCKET)

    def service(self, name: str, lines: tuple[str, ...] = HTTP, **more: Any) -> dict[str, Any]:
        port = self.ports.setdefault(name, free_port())
        return {"discovery": {"method": "base"}, "haproxy": {"port": port, "listen": list(lines), **more}}

    def settings(self, services: Mapping[str, Any], **top: Any) -> SynapseSettings:
        haproxy = {
            "global": ["log stderr local0 emerg"],
            "defaults": ["timeout connect 500ms", "timeout client 30s", "timeout server 30s"],
            "bind_address": "127.0.0.1",
            "restart_interval": 0.2,
            **top,
        }
        return SynapseSettings.model_validate({"services": dict(services), "haproxy": haproxy})

    def file(self) -> str:
        return self.place.config.read_text()

    def masters(self) -> list[int]:
        found = []
        for pid in process.ours(self.place.master_socket):
            with suppress(ProcessLookupError):
                if os.getpgid(pid) == pid:
                    found.append(pid)
        return found

    async def master(self) -> int:
        """The one master, as soon as there is exactly one: it executes itself after a start, up to 3.0 after a reload
        too, and has no command line for a moment."""
        found: list[int] = []

        def one() -> bool:
            found[:] = self.masters()
            return len(found) == 1

        await eventually(one, "one HAProxy")
        return found[0]

    async def link(self) -> Link:
        """A look at HAProxy from outside, over a connection of our own."""
        return await open_link(self.place.stats_socket, from_file(None), {}, 5)


@dataclass
class Running:
    """A writer at work."""

    stand: Stand
    applier: Applier
    pictures: Latest[Picture]
    task: asyncio.Task[None]
    picture: Picture

    def put(self, **services: list[Instance]) -> None:
        """These services have these instances now; the others stay."""
        for name, instances in services.items():
            self.picture = self.picture.with_entry(name, Entry(tuple(instances)))
        self.pictures.put(self.picture)

    async def until(self, condition: Any, what: str, limit: float = 30.0) -> None:
        """Waits for a condition, and fails at once when the writer has."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        while not condition():
            if self.task.done():
                self.task.result()
            if loop.time() > end:
                raise TimeoutError(f"{what}: not within {limit:g} s\n{self.stand.told.texts()}\n{self.applier.trouble}")
            await asyncio.sleep(0.002)

    async def apply(self, limit: float = 30.0, **services: list[Instance]) -> None:
        """Puts these instances and waits until HAProxy has them."""
        self.put(**services)
        await self.applied(limit)

    async def applied(self, limit: float = 30.0) -> None:
        """Waits until HAProxy has what was put last."""
        await self.until(lambda: self.applier.has_applied(self.picture), "applied", limit)


@asynccontextmanager
async def applying(
    stand: Stand, settings: SynapseSettings, *, leave: bool = False, options: Options | None = None
) -> AsyncIterator[Running]:
    """The writer with these settings. `leave`: at the end it is gone as if killed, and HAProxy stays."""
    assert settings.haproxy is not None
    options = options or stand.options
    emit = stand.told.emit
    engine, policy, layout = await arrange(settings.haproxy, options, emit)
    file = File(Path(settings.haproxy.config_file_path or stand.place.config), bool(policy.sockets), emit)
    names = Names(emit)
    drafts = Drafts(names, {}, lambda *_: None, emit)
    applier = Applier(policy, drafts, engine, file, emit)
    pictures: Latest[Picture] = Latest()
    task = asyncio.create_task(applier.run(pictures))
    helper = asyncio.create_task(names.run(applier.resolved))
    try:
        yield Running(stand, applier, pictures, task, Picture(layout, settings.services))
    finally:
        for one in (task, helper):
            one.cancel()
        with suppress(asyncio.CancelledError):
            await task
        if not leave:
            await applier.close()


@asynccontextmanager
async def cleared(stand: Stand) -> AsyncIterator[Stand]:
    """Ends whatever HAProxy is left on the stand."""
    try:
        yield stand
    finally:
        await process.end(process.ours(stand.place.master_socket), gently=False)


class Origins:
    """Servers on 127.0.0.1 that answer HTTP with their name; `instances` are what a registry would say of them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.servers: dict[str, asyncio.Server] = {}
        self._writers: dict[str, set[asyncio.StreamWriter]] = {}
        self.ports: dict[str, int] = {}

    async def start(self, *names: str, **more: Any) -> list[Instance]:
        found = []
        for name in names:
            if name not in self.ports:
                self.servers[name] = await self._serve(name, 0)
                self.ports[name] = self.servers[name].sockets[0].getsockname()[1]
            found.append(Instance("127.0.0.1", self.ports[name], name, **more))
        return found

    async def _serve(self, name: str, port: int) -> asyncio.Server:
        writers = self._writers.setdefault(name, set())
        reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name.encode())

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)
            try:
                while b"close" not in await reader.readuntil(b"\r\n\r\n"):
                    writer.write(reply)
                writer.write(reply)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
                pass
            finally:
                writers.discard(writer)
                writer.close()

        return await self._stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", port, backlog=512))

    def cut(self, name: str) -> None:
        """Every open connection to it is closed."""
        for writer in self._writers[name]:
            writer.close()


@asynccontextmanager
async def origins() -> AsyncIterator[Origins]:
    async with AsyncExitStack() as stack:
        yield Origins(stack)


async def ask(port: int, limit: float = 5.0) -> str:
    """The name of the origin that answers a new connection through HAProxy; "" for anything but a good answer."""
    try:
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        return ""
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode() if head.startswith(b"HTTP/1.1 200") else ""


class Session:
    """A client's connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> Session:
        return cls(*await asyncio.open_connection(host, port))

    async def ask(self, limit: float = 5.0) -> str:
        """The name of the origin at the other end."""
        async with asyncio.timeout(limit):
            self._writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            return (await self._reader.readexactly(length)).decode()

    async def ended(self) -> None:
        """Returns when the other side has closed or reset the connection."""
        with suppress(ConnectionResetError):
            await self._reader.read(1)

    def close(self) -> None:
        self._writer.close()


async def answers(port: int, count: int = 12) -> set[str]:
    """The names that answer so many requests."""
    return {await ask(port) for _ in range(count)}


@dataclass
class Load:
    """Requests on new connections, one after the other, from so many clients; `bad` are those without a good answer."""

    port: int
    clients: int = 4
    good: int = 0
    bad: int = 0

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._go()) for _ in range(self.clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _go(self) -> None:
        while True:
            if await ask(self.port):
                self.good += 1
            else:
                self.bad += 1

    async def more(self, count: int, limit: float = 30.0) -> None:
        """Waits for so many more good answers."""
        wanted = self.good + count
        async with asyncio.timeout(limit):
            while self.good < wanted:  # noqa: ASYNC110 - a counter, and a limit
                await asyncio.sleep(0.002)
