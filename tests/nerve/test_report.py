"""The keeper against the memory registry: wishes, losses, outages, and an end in the middle of anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dockstack.errors import RegistryRefused, RegistryUnavailable
from dockstack.events import DEBUG, Event, Recovered, Retrying
from dockstack.model import Instance
from dockstack.nerve.events import Abandoned, Lost, Registered, Withdrawn
from dockstack.nerve.report import Reported, keep
from dockstack.registry import Lease, NodeKind, Registration, Registry
from dockstack.registry.memory import World
from dockstack.runtime.latest import Latest
from tests.waiting import eventually

pytestmark = pytest.mark.looptime

PATH = "/nerve/web"


def a_registration(
    port: int = 80, kind: NodeKind = NodeKind.EPHEMERAL_SEQUENTIAL, ttl: float | None = None
) -> Registration:
    return Registration("web", PATH, Instance("10.0.0.1", port, "i-1"), kind, ttl=ttl)


class Slow:
    """A registry on which each call takes its time, and which counts them; what it is asked is done at the end."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.delay = 0.0
        self.lose_replies = self.refuse = False
        self.puts = 0
        self.removes = 0

    async def put(self, registration: Registration) -> Lease:
        self.puts += 1
        await asyncio.sleep(self.delay)
        if self.refuse:
            raise RegistryRefused("no")
        lease = await self._registry.put(registration)
        if self.lose_replies:
            raise RegistryUnavailable("the reply was lost")
        return lease

    async def remove(self, lease: Lease) -> None:
        self.removes += 1
        await asyncio.sleep(self.delay)
        await self._registry.remove(lease)

    def holds(self, lease: Lease) -> bool:
        return self._registry.holds(lease)

    @property
    def reachable(self) -> bool:
        return self._registry.reachable

    async def lost(self, lease: Lease) -> None:
        await self._registry.lost(lease)


class Kept:
    """A keeper under test, and what can be done to it."""

    def __init__(self, world: World, announcer: Slow) -> None:
        self.world = world
        self.announcer = announcer
        self.wishes: Latest[Registration | None] = Latest()
        self.reports: Latest[Reported] = Latest()
        self.told: list[Event] = []
        self.task = asyncio.ensure_future(keep("web", self.wishes, announcer, reports=self.reports, emit=self.tell))

    def tell(self, event: Event) -> None:
        if event.level > DEBUG:  # the others are for the metrics
            self.told.append(event)

    def ports(self) -> list[int]:
        return [json.loads(data)["port"] for data in self.world.nodes(PATH).values()]

    def said(self, *kinds: type[Event]) -> list[str]:
        return [type(event).__name__ for event in self.told if isinstance(event, kinds or (Event,))]

    async def until(self, ports: list[int], limit: float = 1.0) -> float:
        """Loop seconds until exactly these ports are registered."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while self.ports() != ports:
            assert loop.time() - start < limit, f"{self.ports()}, not {ports}"
            await asyncio.sleep(0.001)
        return loop.time() - start

    async def end(self) -> float:
        """Cancels the keeper; loop seconds until it was done."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task
        return loop.time() - start


@asynccontextmanager
async def keeping() -> AsyncIterator[Kept]:
    world = World()
    async with world.open(lambda event: None) as registry:
        kept = Kept(world, Slow(registry))
        try:
            yield kept
        finally:
            if not kept.task.done():
                await kept.end()


async def test_a_wish_is_written_once_and_withdrawn() -> None:
    async with keeping() as kept:
        await asyncio.sleep(1)
        assert kept.announcer.puts == 0
        kept.wishes.put(a_registration())
        await kept.until([80])
        await asyncio.sleep(100)
        assert kept.announcer.puts == 1
        assert kept.reports.peek() == Reported(Lease(a_registration(), "i-1_0000000000", "1"))
        kept.wishes.put(None)
        await kept.until([])
        assert [str(event) for event in kept.told] == [
            "web is registered as /nerve/web/i-1_0000000000",
            "web is withdrawn: /nerve/web/i-1_0000000000 is deleted",
        ]


async def test_a_first_wish_for_nothing_is_reported_without_a_call() -> None:
    async with keeping() as kept:
        kept.wishes.put(None)
        await asyncio.sleep(0.1)
        assert kept.reports.peek() == Reported(None)
        assert (kept.announcer.puts, kept.announcer.removes, kept.told) == (0, 0, [])


async def test_a_changed_wish_keeps_its_node() -> None:
    async with keeping() as kept:
        kept.wishes.put(a_registration(80))
        await kept.until([80])
        kept.wishes.put(a_registration(81))
        await kept.until([81])
        assert list(kept.world.nodes(PATH)) == ["i-1_0000000000"]


@pytest.mark.parametrize("loss", ["expire", "delete"])
async def test_a_lost_registration_is_put_back_at_once(loss: str) -> None:
    async with keeping() as kept:
        kept.wishes.put(a_registration())
        await kept.until([80])
        await asyncio.sleep(10)
        if loss == "expire":
            kept.world.expire()
        else:
            kept.world.delete(PATH, "i-1_0000000000")
        assert await kept.until([80]) < 0.01
        assert kept.said() == ["Registered", "Lost", "Registered"]


async def test_whoever_deletes_it_over_and_over_is_not_answered_in_a_busy_loop() -> None:
    async with keeping() as kept:
        kept.wishes.put(a_registration())
        await kept.until([80])
        end = asyncio.get_running_loop().time() + 10
        while asyncio.get_running_loop().time() < end:
            for name in kept.world.nodes(PATH):
                kept.world.delete(PATH, name)
            await asyncio.sleep(0.001)
        assert 10 < kept.announcer.puts < 40


async def test_an_outage_is_tried_again_in_less_than_a_second_and_said_once() -> None:
    async with keeping() as kept:
        kept.world.break_()
        kept.wishes.put(a_registration())
        await asyncio.sleep(60)
        assert 50 < kept.announcer.puts < 150
        assert kept.said() == ["Retrying"]
        assert kept.reports.peek() == Reported(None, "memory is out of reach")
        kept.world.heal()
        await kept.until([80])
        assert kept.said(Retrying, Registered) == ["Retrying", "Registered"]
        assert kept.said(Recovered) == ["Recovered"]
        kept.world.break_()
        kept.wishes.put(None)
        await asyncio.sleep(3)
        assert kept.said(Retrying) == ["Retrying", "Retrying"]
        kept.world.heal()
        await kept.until([])


async def test_the_newest_wish_wins_while_the_registry_is_out_of_reach() -> None:
    async with keeping() as kept:
        kept.world.break_()
        for wish in (a_registration(80), None, a_registration(81), None, a_registration(82)):
            kept.wishes.put(wish)
            await asyncio.sleep(5)
        kept.world.heal()
        await kept.until([82])
        assert kept.said(Registered) == ["Registered"]


async def test_a_wish_that_is_over_before_it_was_written_is_never_written() -> None:
    async with keeping() as kept:
        kept.world.break_()
        kept.wishes.put(a_registration())
        await asyncio.sleep(5)
        kept.wishes.put(None)
        kept.world.heal()
        await asyncio.sleep(5)
        assert kept.ports() == []


async def test_a_registration_whose_reply_was_lost_is_withdrawn() -> None:
    async with keeping() as kept:
        kept.announcer.lose_replies = True
        kept.wishes.put(a_registration())
        await kept.until([80])
        kept.wishes.put(None)
        await asyncio.sleep(0.5)
        kept.announcer.lose_replies = False
        await kept.until([], limit=2)


async def test_what_was_refused_does_not_keep_what_was_there_before() -> None:
    async with keeping() as kept:
        kept.wishes.put(a_registration())
        await kept.until([80])
        kept.announcer.refuse = True
        kept.wishes.put(a_registration(81))
        await asyncio.sleep(0.5)
        assert kept.ports() == [80]
        kept.wishes.put(None)
        await kept.until([], limit=2)


async def test_there_is_nothing_to_withdraw_of_what_was_refused() -> None:
    async with keeping() as kept:
        kept.announcer.refuse = True
        kept.wishes.put(a_registration())
        await asyncio.sleep(0.5)
        assert await kept.end() < 0.01
        assert "Abandoned" not in kept.said()


async def test_the_end_withdraws() -> None:
    async with keeping() as kept:
        kept.wishes.put(a_registration(kind=NodeKind.PERSISTENT))
        await kept.until([80])
        assert await kept.end() < 0.01
        assert kept.ports() == []
        assert kept.said() == ["Registered", "Withdrawn"]


@pytest.mark.parametrize("kind", [NodeKind.EPHEMERAL_SEQUENTIAL, NodeKind.PERSISTENT_SEQUENTIAL])
async def test_an_end_while_it_is_being_written_leaves_nothing(kind: NodeKind) -> None:
    async with keeping() as kept:
        kept.announcer.delay = 0.5
        kept.wishes.put(a_registration(kind=kind))
        await asyncio.sleep(0.25)
        assert kept.announcer.puts == 1
        assert await kept.end() == pytest.approx(0.75)
        assert kept.ports() == []
        assert kept.announcer.removes == 1


async def test_an_end_while_it_is_being_withdrawn_goes_on_with_that() -> None:
    async with keeping() as kept:
        kept.wishes.put(a_registration())
        await kept.until([80])
        kept.announcer.delay = 0.5
        kept.wishes.put(None)
        await asyncio.sleep(0.25)
        assert await kept.end() == pytest.approx(0.25)
        assert kept.ports() == []


async def test_an_end_without_a_registry_is_bounded_and_says_what_is_left() -> None:
    async with keeping() as kept:
        kept.wishes.put(a_registration())
        await kept.until([80])
        kept.world.break_()
        assert await kept.end() == pytest.approx(2.0)
        assert kept.said(Abandoned, Withdrawn) == ["Abandoned"]
        assert "it ends with nerve's session" in str(kept.told[-1])


async def test_an_end_while_the_registry_hangs_is_bounded() -> None:
    async with keeping() as kept:
        kept.announcer.delay = 3600
        kept.wishes.put(a_registration(kind=NodeKind.PERSISTENT))
        await asyncio.sleep(1)
        assert await kept.end() == pytest.approx(2.0)
        assert "delete its node by hand" in str(kept.told[-1])
        assert len(asyncio.all_tasks()) == 1


async def test_an_end_before_anything_was_wished_asks_nobody() -> None:
    async with keeping() as kept:
        await asyncio.sleep(0)
        assert await kept.end() == 0
        assert (kept.announcer.puts, kept.announcer.removes) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
async def test_a_persistent_node_is_written_again_each_ttl_first_at_a_random_moment(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fraction = seed / 5
    monkeypatch.setattr("random.random", lambda: fraction)
    async with keeping() as kept:
        start = asyncio.get_running_loop().time()
        kept.wishes.put(a_registration(kind=NodeKind.PERSISTENT, ttl=100))
        moments: list[float] = []
        for writes in range(2, 5):
            await eventually(lambda: kept.announcer.puts == writes, "a write", limit=110, pause=0.5)  # noqa: B023
            moments.append(asyncio.get_running_loop().time() - start)
        assert moments == [pytest.approx(fraction * 100 + more, abs=1) for more in (0, 100, 200)]
        assert kept.said() == ["Registered"]


async def test_an_ephemeral_node_is_not_written_again() -> None:
    async with keeping() as kept:
        kept.wishes.put(a_registration(ttl=10))
        await asyncio.sleep(100)
        assert kept.announcer.puts == 1


async def test_a_bug_in_the_registry_ends_it() -> None:
    class Buggy(Slow):
        async def put(self, registration: Registration) -> Lease:
            raise KeyError("bug")

    async with World().open(lambda event: None) as registry:
        kept = Kept(World(), Buggy(registry))
        kept.wishes.put(a_registration())
        with pytest.raises(KeyError):
            await kept.task


def test_what_is_lost_is_said() -> None:
    assert "deleted by somebody else or went with its session" in str(Lost("web", "/nerve/web/i_"))
