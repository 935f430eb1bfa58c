"""What the demo shows, step by step, and the table at its end."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import aiohttp

from dockstack.demo.load import Load
from dockstack.demo.stage import Missed, Stage, free_ports
from dockstack.model import Address
from dockstack.synapse.haproxy.model import Admin
from dockstack.synapse.haproxy.runtime import Runtime, connect

FIRST_THREE = ("red", "green", "blue")
VICTIM = FIRST_THREE[0]
FOURTH = "gold"
QUICK = ".check_interval=0.2"
STEADY = 1.5


class _Narrator:
    """Prints each step as it happens and keeps what the table needs."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._rows: list[tuple[str, str]] = []

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def result(self, what: str, figure: str) -> None:
        self._rows.append((what, figure))
        self.say(f"{what}: {figure}")

    def took(self, what: str, seconds: float) -> None:
        self.result(what, f"{seconds * 1000:,.0f} ms")

    def table(self) -> str:
        wide = max(len(what) for what, _ in self._rows)
        narrow = max(len(figure) for _, figure in self._rows)
        rule = f"+-{'-' * wide}-+-{'-' * narrow}-+"
        return "\n".join([rule, *(f"| {what:<{wide}} | {figure:>{narrow}} |" for what, figure in self._rows), rule])


async def tell(stage: Stage, stay: bool) -> int:
    """Plays every step; returns 0, or 1 when a request failed. Raises Missed for a step that did not happen."""
    return await _Story(stage).play(stay)


class _Story:
    """The steps in order; each prints what it saw, or raises Missed."""

    def __init__(self, stage: Stage) -> None:
        *servers, self.front, self.stats = free_ports(len(FIRST_THREE) + 3)
        self.ports = dict(zip((*FIRST_THREE, FOURTH), servers, strict=True))
        self.stage = stage
        self.told = _Narrator()
        self.registry = stage.directory / "registry"
        self.socket = stage.directory / "synapse" / "haproxy.sock"
        self.url = f"http://127.0.0.1:{self.front}/"

    async def play(self, stay: bool) -> int:
        await self.register()
        await self.route()
        haproxy = await connect(self.socket, 2)
        try:
            worker = (await haproxy.identity(2)).pid
            async with Load(self.url) as load:
                await self.load(load)
                await self.kill_one(load, haproxy)
                await self.bring_it_back(load)
                await self.add_a_fourth(load)
                await self.stop_a_nerve(haproxy)
                await self.empty_the_registry(load)
        finally:
            haproxy.close()
        reloads = 0 if await self._worker() == worker else 1
        self.told.result("HAProxy reloads", "at least 1" if reloads else "0")
        self.told.result("requests", f"{load.requests:,}")
        self.told.result("failed requests", f"{len(load.failures):,}")
        print(f"\n{self.told.table()}")
        for line in load.failures[:5]:
            print(f"  failed: {line}")
        if stay:
            await self.stay()
        return 1 if load.failures or reloads else 0

    async def register(self) -> None:
        listed = ", ".join(f"{name} on {self.ports[name]}" for name in FIRST_THREE)
        self.told.say(f"three HTTP servers start: {listed}")
        for name in FIRST_THREE:
            await self._origin(name)
        self.told.say("nerve checks them and registers them in a directory (for more hosts than one: ZooKeeper)")
        await self._nerve("nerve", *FIRST_THREE)
        took = await self._until_registered(len(FIRST_THREE), "the registration of three servers", 8)
        self.told.took("nerve started → three servers registered", took)

    async def route(self) -> None:
        self.told.say("synapse reads the directory and starts HAProxy")
        await self.stage.start(
            "synapse",
            "dockstack",
            "synapse",
            f"-dfile://{self.registry}",
            "-sweb:http:/web",
            f"-rweb:.haproxy.port={self.front}",
            "--bind=127.0.0.1",
            f"--stats=127.0.0.1:{self.stats}",
            f"--run-dir={self.socket.parent}",
            f"--state-dir={self.stage.directory / 'synapse-state'}",
        )
        self.told.took("synapse started → first answer through HAProxy", await self._first_answer(10))

    async def load(self, load: Load) -> None:
        self.told.say(f"a steady load on {self.url}, each request on a new connection")
        await self.stage.until("an answer from each server", lambda: all(load.answers[n] for n in FIRST_THREE), 5)
        await self._steadily(load)

    async def kill_one(self, load: Load, haproxy: Runtime) -> None:
        self.told.say(f"{VICTIM} is killed (SIGKILL)")
        began = time.monotonic()
        await self.stage.stop(VICTIM, signal.SIGKILL)
        await self._until_registered(len(FIRST_THREE) - 1, f"the withdrawal of {VICTIM}", 8)
        await self._out_of_rotation(haproxy, VICTIM)
        self.told.took("killed → out of rotation", time.monotonic() - began)
        await self._steadily(load)

    async def bring_it_back(self, load: Load) -> None:
        self.told.say(f"{VICTIM} is started again")
        began = time.monotonic()
        await self._origin(VICTIM)
        await self._answers(load, VICTIM)
        self.told.took("started again → served", time.monotonic() - began)

    async def add_a_fourth(self, load: Load) -> None:
        self.told.say(f"a fourth server, {FOURTH}, joins from another nerve")
        await self._origin(FOURTH)
        began = time.monotonic()
        await self._nerve("nerve-2", FOURTH)
        await self._answers(load, FOURTH)
        self.told.took("second nerve started → fourth server served", time.monotonic() - began)
        await self._steadily(load)

    async def stop_a_nerve(self, haproxy: Runtime) -> None:
        self.told.say("the second nerve is stopped cleanly (SIGTERM)")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.stage.stop("nerve-2"))
            took = await self._until_registered(len(FIRST_THREE), "the withdrawal at the end of nerve", 5)
            self.told.took("nerve stopped → withdrawn", took)
            await self._out_of_rotation(haproxy, FOURTH)

    async def empty_the_registry(self, load: Load) -> None:
        self.told.say("the first nerve is stopped as well: the registry is empty now, the last servers are kept")
        await self.stage.stop("nerve")
        await self._until_registered(0, "the withdrawal of everything", 5)
        before = load.answers.total()
        await asyncio.sleep(STEADY)
        answered = load.answers.total() - before
        if not answered:
            raise Missed("serving on with an empty registry did not happen")
        self.told.result("answers while the registry was empty", f"{answered:,}")

    async def stay(self) -> None:
        """Registers the three again and waits to be interrupted."""
        await self._nerve("nerve-3", *FIRST_THREE)
        print(
            f"""
still running, until Ctrl-C:
    the service      {self.url}
    HAProxy's page   http://127.0.0.1:{self.stats}/
    registrations    {self.registry}/web
    logs             {self.stage.directory}/*.log""",
            flush=True,
        )
        await asyncio.Event().wait()

    async def _origin(self, name: str) -> None:
        await self.stage.start(name, "dockstack.demo.origin", name, str(self.ports[name]))

    async def _nerve(self, instance_id: str, *origins: str) -> None:
        await self.stage.start(
            instance_id,
            "dockstack",
            "nerve",
            f"-dfile://{self.registry}",
            *(f"-s{name}:http:{self.ports[name]}:/web" for name in origins),
            *(f"-r{name}:{QUICK}" for name in origins),
            f"--instance_id={instance_id}",
            f"--run-dir={self.stage.directory / instance_id}",
            f"--state-dir={self.stage.directory / f'{instance_id}-state'}",
            SERVICE_HOST="127.0.0.1",
        )

    async def _until_registered(self, count: int, what: str, limit: float) -> float:
        return await self.stage.until(what, lambda: _registered(self.registry / "web") == count, limit)

    async def _first_answer(self, limit: float) -> float:
        began = time.monotonic()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while time.monotonic() - began < limit:
                try:
                    async with session.get(self.url) as response:
                        if response.status == 200:
                            return time.monotonic() - began
                except (aiohttp.ClientError, TimeoutError):
                    self.stage.check("a first answer through HAProxy")
                await asyncio.sleep(0.01)
        raise Missed(f"a first answer through HAProxy did not happen within {limit:.0f} s")

    async def _steadily(self, load: Load) -> None:
        await asyncio.sleep(STEADY)
        shares = ", ".join(f"{name} {count:,}" for name, count in sorted(load.answers.items()))
        self.told.say(f"{load.requests:,} requests, {len(load.failures)} failed ({shares})")

    async def _answers(self, load: Load, name: str) -> None:
        seen = load.answers[name]
        await self.stage.until(f"an answer from {name}", lambda: load.answers[name] > seen, 8)

    async def _out_of_rotation(self, haproxy: Runtime, name: str) -> None:
        """Waits until HAProxy gives no new connections to this server."""
        limit = time.monotonic() + 5
        address = Address("127.0.0.1", self.ports[name])
        while address in await _in_rotation(haproxy):
            if time.monotonic() > limit:
                raise Missed(f"taking {name} out of rotation did not happen within 5 s")
            await asyncio.sleep(0.002)

    async def _worker(self) -> int:
        """HAProxy's process id: another one means that it was reloaded."""
        haproxy = await connect(self.socket, 2)
        try:
            return (await haproxy.identity(2)).pid
        finally:
            haproxy.close()


def _registered(directory: Path) -> int:
    """How many registrations the directory holds; hidden files and files in the making do not count."""
    try:
        return sum(1 for file in directory.iterdir() if file.name[0] != "." and file.suffix != ".tmp")
    except FileNotFoundError:
        return 0


async def _in_rotation(haproxy: Runtime) -> set[Address | None]:
    backends = await haproxy.servers(2)
    return {server.address for server in backends.get("web", {}).values() if server.admin is Admin.READY}
