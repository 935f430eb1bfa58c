"""SIGKILL at a random moment of a random change under load: afterwards everything is as the registry has it."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockstack.demo.load import CLIENTS, Load
from dockstack.errors import HaproxyUnavailable
from tests.real.scene import SERVICES, Scene, Views, changes, scene
from tests.servers.haproxy import HaproxyBinary
from tests.synapse.haproxy.applying import Session
from tests.waiting import eventually

ROUNDS = int(os.environ.get("DOCKSTACK_KILLS", "12"))
"""Rounds for each HAProxy."""

SEED = int(os.environ.get("DOCKSTACK_SEED", "0")) or secrets.randbelow(1 << 32)
KINDS = ("synapse", "master", "worker", "synapse and master", "synapse and worker")
LIMIT = 20.0
"""Seconds until all is well again: well below the time between two read-backs, which must not be needed."""

WEIGHTS = {"web": (None, 1, 7, 256), "db": (None, 1, 256), "fixed": (None, 0, 1, 7)}
"""Of the two that are asked, no server has the weight 0: all of them could have it."""

OPTIONS = (None, "maxconn 7", "maxconn 9 slowstart 1s")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path is short enough for HAProxy's sockets."""
    directory = Path(tempfile.mkdtemp(prefix="dsk-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


async def change(place: Scene, rng: random.Random) -> str:
    """One random change in the registry, or of the settings; returns what it was."""
    if rng.random() < 0.1:
        place.remark(name := f"mark-{rng.randrange(1 << 32):08x}")
        return name
    told = []
    for what, service, name in changes(place, rng):
        if what == "withdraw":
            await place.withdraw(service, name)
        else:
            weight, options = rng.choice(WEIGHTS[service]), rng.choice(OPTIONS)
            await place.announce(service, name, weight=weight, haproxy_server_options=options)
        told.append(f"{what} {service}/{name}")
        if rng.random() < 0.2:
            await asyncio.sleep(rng.uniform(0, 0.03))
    return ", ".join(told)


async def kill(place: Scene, kind: str) -> None:
    if "synapse" in kind:
        await asyncio.to_thread(place.kill_synapse)
    for which in ("master", "worker"):
        if which in kind:
            place.kill_haproxy(which)


def moment(rng: random.Random) -> float:
    """Seconds: most of what happens after a change happens within some milliseconds, the rest within a second."""
    return rng.uniform(0, rng.choice((0.02, 0.2, 1.2)))


async def restart(place: Scene, rng: random.Random, kind: str) -> str:
    """Starts synapse again where it was killed, and now and then kills it once more while it starts."""
    again = ""
    while place.synapse is None:
        place.start()
        if not again and rng.random() < 0.25:
            again = f", again after {(pause := rng.uniform(0.2, 1.0)):.2f} s"
            await asyncio.sleep(pause)
            await kill(place, kind)
    return again


def keeps_ids(before: Views, after: Views, stayed: dict[str, set[str]]) -> bool:
    """Whether each server that was there all the time has the id that it had."""
    return all(
        before.running[service][name].id == after.running[service][name].id
        for service in SERVICES
        for name in before.running[service].keys() & after.running[service].keys()
        if name.partition("_")[0] in stayed[service]
    )


async def stays(place: Scene, where: str) -> None:
    """Nothing has happened since all was well."""
    try:
        views = await place.views()
    except HaproxyUnavailable as error:
        raise AssertionError(f"{where}: it did not stay so: {error}\n{place.log}") from error
    assert views.agree, f"{where}: it did not stay so\n{views}\n{place.log}"


def announced(place: Scene) -> dict[str, dict[str, str]]:
    """By service and instance name, the node that tells of it: another node is another life."""
    return {
        service: {name: place.leases[service, name].node for name in place.announced(service)} for service in SERVICES
    }


async def test_a_kill_at_any_moment_heals(
    haproxy: HaproxyBinary, short_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    kinds: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    async with scene(short_path, haproxy.path, rng) as place:
        place.start()
        before = await place.agreement(LIMIT)
        async with Load(f"http://{place.address}:{place.ports['web']}/") as load:
            for number in range(ROUNDS):
                kind = KINDS[number] if number < len(KINDS) else rng.choice(KINDS)
                where = f"seed {SEED}, {haproxy}, round {number}, {kind}"
                await stays(place, where)
                session = await Session.open(place.ports["db"], place.address)
                assert (await session.ask()).startswith("db-")
                failed, nodes = len(load.failures), announced(place)
                changing = asyncio.create_task(change(place, rng))
                await asyncio.sleep(pause := moment(rng))
                await kill(place, kind)
                where += f" after {pause * 1000:.1f} ms of `{await changing}`"
                where += await restart(place, rng, kind)
                try:
                    after = await place.agreement(LIMIT)
                except AssertionError as error:
                    error.add_note(where)
                    raise
                stayed = {
                    service: {name for name, node in now.items() if nodes[service].get(name) == node}
                    for service, now in announced(place).items()
                }
                assert keeps_ids(before, after, stayed), f"{where}: an id has changed\n{before}\n{after}\n{place.log}"
                # A master executes itself after a start and a reload, and has no command line for a moment.
                await eventually(lambda: len(place.masters()) == 1, f"{where}: one HAProxy")
                await more(load, 3 * CLIENTS)
                lost[kind] += len(load.failures) - failed
                if kind == "synapse":
                    assert load.failures[failed:] == [], f"{where}\n{place.log}"
                    assert (await session.ask()).startswith("db-"), where
                session.close()
                kinds[kind] += 1
                before = after
        assert place.synapse is not None
        assert await asyncio.to_thread(place.synapse.terminate) < 5
        assert place.masters() == []
    told = ", ".join(f"{kind} {count} ({lost[kind]} requests lost)" for kind, count in kinds.items())
    with capsys.disabled():
        print(f"\n{haproxy}: {kinds.total()} kills, all healed (seed {SEED}): {told}; {load.requests} requests")


async def more(load: Load, requests: int) -> None:
    """Waits for so many more requests."""
    enough = load.requests + requests
    async with asyncio.timeout(10):
        while load.requests < enough:  # noqa: ASYNC110 - a counter, and a limit
            await asyncio.sleep(0.005)
