"""Fifty labelled containers that come and go at random: the registry ends equal to what runs, and nothing is left over.

DOCKSTACK_CHURN is how many seconds that goes on; 20 where it is not set.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from dockstack.events import WARNING, Event
from tests.docker.alive import alive
from tests.docker.conftest import Figures
from tests.docker.engine import Engine, base
from tests.docker.yard import Yard
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import eventually

SECONDS = float(os.environ.get("DOCKSTACK_CHURN", "20"))
MOST = 50
AT_ONCE = 4
SETTLED = 30.0
"""Seconds in which the registry must be equal to the engine once nothing changes any more."""

# It ends at a SIGTERM, as the first process of a container would not by itself.
LISTENER = (
    "$SIG{TERM} = sub { exit }; for (@ARGV) { next if fork; "
    "my $s = IO::Socket::INET->new(LocalPort => $_, Listen => 9, ReuseAddr => 1) or die $!; "
    "while (my $c = $s->accept) { close $c } } sleep 1 while 1"
)
KINDS: tuple[dict[str, str], ...] = (
    {"dockstack.web.port": "80", "dockstack.web.check": "quick"},
    {"dockstack.web.port": "80", "dockstack.web.check": "quick", "dockstack.web.labels.zone": "b"},
    {
        "dockstack.web.port": "80",
        "dockstack.web.check": "quick",
        "dockstack.admin.port": "81",
        "dockstack.admin.path": "/deep/admin",
        "dockstack.admin.check": "quick",
    },
    {"dockstack.web.port": "80", "dockstack.enable": "false"},
    {"dockstack.web.prot": "80"},
)


@dataclass
class Fleet:
    """The containers of the test, each changed by one task at a time."""

    yard: Yard
    image: str
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    _states: dict[int, str] = field(default_factory=dict)
    _busy: set[int] = field(default_factory=set)

    async def change(self, number: int | None = None) -> None:
        """Starts, stops, restarts, kills, pauses or removes one of them, whichever its state allows."""
        if number is None:
            number = self.chance.choice([one for one in range(MOST) if one not in self._busy])
        name = f"c{number}"
        state = self._states.get(number)
        can = {None: ("run",), "running": ("remove", "stop", "restart", "kill", "pause"), "paused": ("unpause",)}
        action = self.chance.choice(can.get(state, ("start", "remove")))
        self._busy.add(number)
        if action == "run":
            labels = [f"--label={key}={text}" for key, text in KINDS[number % len(KINDS)].items()]
            command = ("perl", "-MIO::Socket::INET", "-e", LISTENER, "80", "81")
            await asyncio.to_thread(self.yard.run, name, self.image, command, (*labels, "-p", "80", "-p", "81"))
        else:
            words = {"remove": ("rm", "--force"), "stop": ("stop", "--time", "1")}.get(action, (action,))
            await asyncio.to_thread(self.yard.engine.docker, *words, self.yard.name(name))
        after = {"remove": None, "stop": "exited", "kill": "exited", "pause": "paused"}.get(action, "running")
        self._states.pop(number, None)
        if after is not None:
            self._states[number] = after
        self._busy.discard(number)
        self.done[action] += 1

    async def change_for(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            await self.change()

    async def remove(self) -> None:
        names = [self.yard.name(f"c{number}") for number in self._states]
        self._states.clear()
        await asyncio.to_thread(self.yard.engine.docker, "rm", "--force", *names, limit=120)


class Registry:
    """What is registered below a path, by ZooKeeper's own answers."""

    def __init__(self, server: ZooKeeperServer, root: str) -> None:
        self._client = KazooClient(f"127.0.0.1:{server.port}")
        self._client.start(10)
        self._root = root

    def registered(self) -> list[tuple[str, int]]:
        """Path below the root, and port, of each registration, in order."""
        return sorted(self._below(self._root))

    def _below(self, path: str) -> Iterable[tuple[str, int]]:
        try:
            for child in self._client.get_children(path):
                below = f"{path}/{child}"
                data, stat = self._client.get(below)
                if stat.ephemeralOwner:
                    yield path.removeprefix(self._root), json.loads(data)["port"]
                else:
                    yield from self._below(below)
        except NoNodeError:
            return

    def close(self) -> None:
        self._client.stop()
        self._client.close()


def running(yard: Yard) -> list[tuple[str, int]]:
    """Path and port of all that should be registered, by the engine's own answers."""
    ids = yard.engine.docker("ps", "--quiet", "--filter", f"name=^{yard.prefix}", "--filter", "status=running").split()
    containers: list[dict[str, Any]] = json.loads(yard.engine.docker("inspect", *ids)) if ids else []
    found = []
    for one in containers:
        labels, ports = one["Config"]["Labels"], one["NetworkSettings"]["Ports"]
        if "dockstack.enable" in labels or "dockstack.web.prot" in labels:
            continue
        found.append(("/web", int(ports["80/tcp"][0]["HostPort"])))
        if "dockstack.admin.port" in labels:
            found.append(("/deep/admin", int(ports["81/tcp"][0]["HostPort"])))
    return sorted(found)


async def settled(condition: Callable[[], bool], what: str) -> float:
    """Seconds until the condition holds, which asks others and so is not for the event loop."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not await asyncio.to_thread(condition):
        if loop.time() > began + SETTLED:
            raise TimeoutError(f"{what}: not within {SETTLED:g} s")
        await asyncio.sleep(0.1)
    return loop.time() - began


def sockets() -> int:
    """How many sockets this process has open."""
    links = []
    for one in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(one.readlink()))
        except FileNotFoundError:
            continue
    return sum(link.startswith("socket:") for link in links)


@pytest.mark.timeout(240 + 2 * SECONDS)
async def test_fifty_containers_at_random(
    yard: Yard, engine: Engine, zookeeper: ZooKeeperServer, tmp_path: Path, figures: Figures
) -> None:
    image = base(engine)
    seed = random.randrange(2**32)
    root = f"/{yard.prefix}"
    fleet = Fleet(yard, image, random.Random(seed))
    registry = Registry(zookeeper, root)
    events: list[Event] = []
    try:
        async with alive(tmp_path, engine.host, f"zk://127.0.0.1:{zookeeper.port}{root}", events.append):
            # The first container brings what stays: the session with the registry.
            await fleet.change(0)
            await settled(lambda: registry.registered() == running(yard) != [], "the first container")
            await fleet.remove()
            await settled(lambda: registry.registered() == [], "an empty registry")
            before = len(asyncio.all_tasks()), sockets()
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(fleet.change_for(SECONDS))
            took = await settled(
                lambda: registry.registered() == running(yard), f"what runs is registered, seed {seed}"
            )
            left = registry.registered()
            await fleet.remove()
            await settled(lambda: registry.registered() == [], f"an empty registry, seed {seed}")
            # The client keeps a connection for some seconds, in case that it is needed again.
            await eventually(lambda: sockets() <= before[1], f"no more than {before[1]} sockets, seed {seed}", SETTLED)
            after = len(asyncio.all_tasks()), sockets()
            assert after[0] <= before[0], [task.get_name() for task in asyncio.all_tasks()]
    finally:
        registry.close()
    told = {str(event) for event in events if event.level >= WARNING}
    skipped = [text for text in told if text.startswith(f"the container {yard.prefix}")]
    assert all("label dockstack.web.prot: unknown" in text for text in skipped), skipped
    figures(f"{MOST} containers at random for {SECONDS:g} s: changes", f"{fleet.done.total()}")
    figures("registered then = running; seconds until they were", f"{len(left)}; {took:.1f} s")
    figures("tasks before, after", f"{before[0]}, {after[0]}")
    figures("sockets before, after", f"{before[1]}, {after[1]}")
