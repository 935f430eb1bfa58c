"""A synapse as a program, with its HAProxy, on a directory as registry: changed, killed, and looked at from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dockstack.admin.client import NoAnswer, ask
from dockstack.errors import HaproxyUnavailable
from dockstack.events import Event
from dockstack.model import Address, Instance
from dockstack.registry import Lease, Locator, Registration, Registry, Snapshot, open_registry
from dockstack.registry.codec import NerveDecoder
from dockstack.settings.synapse import SynapseSettings
from dockstack.synapse.haproxy import process
from dockstack.synapse.haproxy.document import Layout, draft
from dockstack.synapse.haproxy.model import Admin, Backend
from dockstack.synapse.haproxy.render import mark
from dockstack.synapse.haproxy.runtime import connect
from dockstack.synapse.haproxy.server import is_disabled, weight
from dockstack.synapse.haproxy.text import parse
from dockstack.synapse.select import select
from tests.e2e.programs import Daemon, dockstack
from tests.servers.ports import free_ports
from tests.synapse.haproxy.applying import HTTP, Origins, origins

CHECK = "check inter 1s fall 3"
SERVICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"web": HTTP, "db": ("mode tcp",), "fixed": ("mode http", "balance static-rr")}
)
"""By commands with HTTP, by commands with sessions that last, and by reloads alone."""


@dataclass(frozen=True)
class Seen:
    """A server in service as somebody knows it; HAProxy does not tell the options, nor the selection an id."""

    address: Address
    weight: int
    id: int | None = None
    options: str | None = None

    def agrees(self, other: Seen) -> bool:
        pairs = ((self.id, other.id), (self.options, other.options))
        known = all(one == two for one, two in pairs if None not in (one, two))
        return known and (self.address, self.weight) == (other.address, other.weight)

    def __str__(self) -> str:
        return f"{self.address} weight {self.weight} id {self.id} `{self.options}`"


Servers = Mapping[str, Seen]
"""Those in service, by name."""


@dataclass(frozen=True)
class Views:
    """The servers in service of every backend, as each of three knows them, and the marks of the structure that is
    loaded and that is written; `marked`: the section that the settings want is in the file.
    """

    running: Mapping[str, Servers]
    written: Mapping[str, Servers]
    wanted: Mapping[str, Servers]
    marks: tuple[str | None, str]
    marked: bool

    @property
    def agree(self) -> bool:
        """Whether the running HAProxy, the file and what is selected have the same servers and structure."""
        return all(map(_agree, self._threes().values())) and self.marks[0] == self.marks[1] and self.marked

    def _threes(self) -> Mapping[str, tuple[Seen | None, ...]]:
        found = {}
        for name in SERVICES:
            sides = [view.get(name, {}) for view in (self.running, self.written, self.wanted)]
            for server in sorted({one for side in sides for one in side}):
                found[f"{name}/{server}"] = tuple(side.get(server) for side in sides)
        return found

    def __str__(self) -> str:
        rows = (f"{' ' if _agree(three) else '!'} {name}: {three}" for name, three in self._threes().items())
        head = f"  marks {self.marks}, marked: {self.marked}; running | written | wanted"
        return "\n".join((head, *rows))


def _agree(three: tuple[Seen | None, ...]) -> bool:
    return None not in three and all(one.agrees(two) for one, two in pairwise(one for one in three if one))


@dataclass
class Scene:
    """The place. `directory` must have a short path: HAProxy's sockets are below it."""

    directory: Path
    haproxy: Path
    registry: Registry
    origins: Origins
    stack: ExitStack
    address: str
    ports: Mapping[str, int]
    settings: SynapseSettings
    leases: dict[tuple[str, str], Lease] = field(default_factory=dict)
    synapse: Daemon | None = None
    mark: str | None = None

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    @property
    def master_socket(self) -> Path:
        return self.run_dir / "haproxy-master.sock"

    @property
    def log(self) -> str:
        """The last lines of synapse's and HAProxy's."""
        return "\n".join((self.directory / "synapse.log").read_text(errors="replace").splitlines()[-60:])

    # -- the registry

    async def announce(self, service: str, name: str, **more: Any) -> None:
        """Registers an instance, or makes its registration this one."""
        (instance,) = await self.origins.start(f"{service}-{name}")
        instance = replace(instance, name=name, **more)
        self.leases[service, name] = await self.registry.put(Registration(f"{service}/{name}", f"/{service}", instance))

    async def withdraw(self, service: str, name: str) -> None:
        await self.registry.remove(self.leases.pop((service, name)))

    def announced(self, service: str) -> dict[str, Instance]:
        """What is registered for a service, by instance name."""
        return {name: lease.registration.instance for (one, name), lease in self.leases.items() if one == service}

    async def snapshot(self, service: str) -> Snapshot:
        """What the registry has for a service, as a new reader finds it."""
        async for found in self.registry.watch(f"/{service}", NerveDecoder()):
            return found
        raise AssertionError("a watch does not end")

    # -- synapse and HAProxy

    def configure(self, **top: Any) -> None:
        """Writes synapse's file, with these keys of the section `haproxy` besides the usual ones."""
        document = _document(self.directory, self.address, self.ports)
        document["haproxy"] |= top
        (self.directory / "synapse.json").write_text(json.dumps(document))

    def remark(self, mark: str) -> None:
        """Has the settings want a section of that name, and tells synapse, if it runs, to read them again."""
        self.mark = f"backend {mark}"
        self.configure(extra_sections={self.mark: ["mode http"]})
        if self.synapse is not None:
            self.synapse.process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        """Starts synapse; returns at once."""
        where = ("--run-dir", str(self.run_dir), "--state-dir", str(self.directory / "state"))
        command = ("synapse", "-c", str(self.directory / "synapse.json"), "--haproxy", str(self.haproxy), *where)
        self.synapse = self.stack.enter_context(dockstack(self.directory / "synapse.log", *command))

    def kill_synapse(self) -> None:
        """SIGKILL; fine when it is not running."""
        if self.synapse is not None:
            self.synapse.kill()
            self.synapse = None

    def masters(self) -> list[int]:
        """HAProxy's master processes: there should be one."""
        return [pid for pid in process.ours(self.master_socket) if _ids(pid)[1] == pid]

    def kill_haproxy(self, which: str) -> bool:
        """SIGKILL for the `master` or the newest `worker`; whether there was one."""
        masters, all_of_it = self.masters(), process.ours(self.master_socket)
        chosen = masters if which == "master" else [pid for pid in all_of_it if pid not in masters]
        for pid in sorted(chosen, key=lambda one: _ids(one)[2])[-1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def ready(self) -> bool:
        """Whether synapse says that HAProxy has all that is wanted."""
        try:
            return ask(self.run_dir / "synapse.sock", "ready", 2).ok
        except NoAnswer:
            return False

    # -- the three that must agree

    async def views(self) -> Views:
        """Raises HaproxyUnavailable, OSError or ValueError while one of them cannot be asked."""
        wanted = {service: await self._wanted(service) for service in SERVICES}
        written = parse((self.run_dir / "haproxy.cfg").read_text())
        file = {name: _of_file(stanza.backend) for name, stanza in written.stanzas.items()}
        running, loaded = await self._running()
        marked = self.mark is None or any(one.title == self.mark for one in written.head)
        return Views(running, {name: one for name, one in file.items() if one}, wanted, (loaded, mark(written)), marked)

    async def _wanted(self, service: str) -> Servers:
        assert self.settings.haproxy is not None
        frame = Layout(self.settings.haproxy, (), "").frame(self.settings.services)
        entry = select(service, self.settings.services[service], await self.snapshot(service), None).entry
        assert {one.name for one in entry.instances} == self.announced(service).keys()
        backend = draft(frame, service, entry, {}, {}).stanza.backend
        return {one.name: Seen(one.address, weight(one, ""), None, one.options) for one in backend.servers}

    async def _running(self) -> tuple[Mapping[str, Servers], str | None]:
        runtime = await connect(self.run_dir / "haproxy.sock", 2)
        try:
            identity = await runtime.identity(2)
            if identity.stopping:
                raise HaproxyUnavailable("this worker is being retired")
            states = await runtime.servers(2)
        finally:
            runtime.close()
        found = {
            backend: {
                name: Seen(one.address or Address("-", 0), one.weight, one.id)
                for name, one in servers.items()
                if one.admin is Admin.READY
            }
            for backend, servers in states.items()
        }
        return found, identity.mark

    async def agreement(self, limit: float) -> Views:
        """The views as soon as synapse is ready and they agree; AssertionError after `limit` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        seen: Views | Exception | None = None
        while loop.time() < end:
            assert self.synapse is None or self.synapse.process.poll() is None, f"synapse has ended\n{self.log}"
            try:
                seen = await self.views()
                if seen.agree and await asyncio.to_thread(self.ready):
                    return seen
            except (HaproxyUnavailable, OSError, ValueError) as error:
                seen = error
            await asyncio.sleep(0.02)
        raise AssertionError(f"no agreement within {limit:g} s; ready: {self.ready()}\n{seen}\n{self.log}")


def _of_file(backend: Backend) -> Servers:
    return {
        one.name: Seen(one.address, weight(one, backend.default_server), one.id, one.options)
        for one in backend.servers
        if not is_disabled(one)
    }


def _ids(pid: int) -> tuple[int, int, int]:
    """Parent, process group, and start (in ticks) of a process; zeros when it is gone."""
    try:
        cells = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0, 0
    return int(cells[1]), int(cells[2]), int(cells[19])


@asynccontextmanager
async def scene(directory: Path, haproxy: Path, rng: random.Random) -> AsyncIterator[Scene]:
    """The place with a few registered instances for each service; synapse is not started yet."""
    # An address of its own: while HAProxy is dead somebody else could take a port of 127.0.0.1.
    address = f"127.{rng.randint(1, 250)}.{rng.randint(1, 250)}.{rng.randint(1, 250)}"
    ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    document = _document(directory, address, ports)
    (directory / "synapse.json").write_text(json.dumps(document))
    told: list[Event] = []
    locator = Locator(scheme="file", root=str(directory / "registry"))
    with ExitStack() as stack:
        stack.callback(_end_haproxy, directory / "run" / "haproxy-master.sock")
        async with origins() as backs, open_registry(locator, told.append) as registry:
            settings = SynapseSettings.model_validate(document)
            place = Scene(directory, haproxy, registry, backs, stack, address, ports, settings)
            for service in SERVICES:
                for name in "abc":
                    await place.announce(service, name, weight=rng.choice((None, 1, 5)))
            yield place


def _document(directory: Path, address: str, ports: Mapping[str, int]) -> dict[str, Any]:
    def service(name: str, lines: tuple[str, ...]) -> dict[str, Any]:
        discovery = {"method": "file", "directory": str(directory / "registry"), "path": f"/{name}"}
        return {
            "discovery": discovery,
            "haproxy": {"port": ports[name], "listen": list(lines), "server_options": CHECK},
        }

    return {
        "services": {name: service(name, lines) for name, lines in SERVICES.items()},
        "haproxy": {
            "global": ["log stderr local0 emerg"],
            "defaults": ["timeout connect 500ms", "timeout client 60s", "timeout server 60s"],
            "bind_address": address,
            "restart_interval": 0.2,
            "config_file_path": str(directory / "run" / "haproxy.cfg"),
            "socket_file_path": str(directory / "run" / "haproxy.sock"),
            "use_nerve_weights": True,
        },
    }


def _end_haproxy(master_socket: Path) -> None:
    for pid in process.ours(master_socket):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def changes(place: Scene, rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """A random change, as (what, service, instance) of each step: `announce` for a new one or another description."""
    service = rng.choices(("web", "db", "fixed"), (5, 3, 2))[0]
    steps = rng.choices((1, rng.randint(2, 12)), (3, 1))[0]
    here = set(place.announced(service))
    for _ in range(steps):
        what = rng.choices(("add", "remove", "change"), (4, 3, 3))[0]
        if what == "remove" and len(here) > 2:
            name = rng.choice(sorted(here))
            here.discard(name)
            yield "withdraw", service, name
        elif what == "add" and len(here) < 12:
            name = rng.choice(sorted(set("abcdefghijklmnop") - here))
            here.add(name)
            yield "announce", service, name
        else:
            yield "announce", service, rng.choice(sorted(here))
