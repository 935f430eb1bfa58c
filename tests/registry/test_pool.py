"""One session per locator, opened once, and all closed within a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit, Event
from dockstack.model import Address
from dockstack.registry import Locator, Registry
from dockstack.registry.memory import World
from dockstack.registry.pool import Pool
from dockstack.registry.zookeeper.events import Expired
from tests.waiting import eventually

HERE = Locator("memory", (Address("h", 1),), password="secret")
THERE = Locator("memory", (Address("h", 2),))


def quiet(event: Event) -> None:
    pass


class Opener:
    """Opens memory sessions, slowly, and counts."""

    def __init__(self) -> None:
        self.opened: list[Locator] = []
        self.closed: list[Locator] = []
        self.closing = 0.0
        self.failures: list[Exception] = []

    @asynccontextmanager
    async def __call__(self, locator: Locator, emit: Emit) -> AsyncIterator[Registry]:
        self.opened.append(locator)
        await asyncio.sleep(0.001)
        if self.failures:
            raise self.failures.pop()
        async with World().open(emit) as registry:
            yield registry
            await asyncio.sleep(self.closing)
        self.closed.append(locator)


async def test_equal_locators_share_one_session_also_when_they_ask_at_once() -> None:
    opener = Opener()
    async with Pool(quiet, opener) as pool:
        first, second, other = await asyncio.gather(pool.get(HERE), pool.get(HERE), pool.get(THERE))
        assert first is second
        assert first is not other
        assert await pool.get(Locator("memory", (Address("h", 1),), password="secret")) is first
        assert pool.states() == {"memory://h:1": "connected to memory", "memory://h:2": "connected to memory"}
        assert opener.closed == []
    assert opener.opened == [HERE, THERE]
    assert sorted(map(str, opener.closed)) == ["memory://h:1", "memory://h:2"]


async def test_what_happens_to_a_session_is_told_in_the_name_of_who_asked_first() -> None:
    said: list[Event] = []

    @asynccontextmanager
    async def expiring(locator: Locator, emit: Emit) -> AsyncIterator[Registry]:
        async with World().open(emit) as registry:
            yield registry
        emit(Expired(1, locator))

    async with Pool(said.append, expiring) as pool:
        await pool.get(HERE, "web")
        await pool.get(HERE, "db")
    assert [one for one in said if isinstance(one, Expired)] == [Expired(1, HERE, user="web")]


async def test_who_gives_up_waiting_takes_nothing_from_the_others() -> None:
    opener = Opener()
    async with Pool(quiet, opener) as pool:
        impatient = asyncio.create_task(pool.get(HERE))
        patient = asyncio.create_task(pool.get(HERE))
        await asyncio.sleep(0)
        assert pool.states() == {"memory://h:1": "opening"}
        impatient.cancel()
        assert (await patient).state == "connected to memory"


async def test_a_failed_opening_is_told_to_all_and_tried_again_by_the_next() -> None:
    opener = Opener()
    opener.failures = [RegistryUnavailable("no directory")]
    async with Pool(quiet, opener) as pool:
        results = await asyncio.gather(pool.get(HERE), pool.get(HERE), return_exceptions=True)
        assert [str(result) for result in results] == ["no directory"] * 2
        assert pool.states() == {}
        assert (await pool.get(HERE)).state == "connected to memory"


async def test_sessions_that_nobody_needs_any_more_are_closed() -> None:
    opener = Opener()
    async with Pool(quiet, opener) as pool:
        first, _ = await asyncio.gather(pool.get(HERE), pool.get(THERE))
        pool.keep_only({THERE})
        assert pool.states().keys() == {"memory://h:2"}
        assert await pool.get(HERE) is not first
        await eventually(lambda: opener.closed == [HERE], "the first one is closed", 5)
        assert pool.states().keys() == {"memory://h:1", "memory://h:2"}
    assert sorted(map(str, opener.closed)) == ["memory://h:1", "memory://h:1", "memory://h:2"]


async def test_a_session_that_is_lent_is_closed_when_the_last_one_gives_it_back() -> None:
    opener = Opener()
    async with Pool(quiet, opener) as pool:
        first = await pool.borrow(HERE)
        assert await pool.borrow(HERE) is first
        await pool.borrow(THERE)
        pool.give_back(HERE)
        pool.give_back(THERE)
        await eventually(lambda: opener.closed == [THERE], "the other one is closed", 5)
        assert pool.states().keys() == {"memory://h:1"}
        pool.give_back(HERE)
        await eventually(lambda: opener.closed == [THERE, HERE], "both are closed", 5)
        assert await pool.borrow(HERE) is not first
        assert pool.states().keys() == {"memory://h:1"}


async def test_a_session_that_is_given_up_while_it_is_opened_leaves_the_next_one_alone() -> None:
    opener = Opener()
    opener.failures = [RegistryUnavailable("no directory")]
    async with Pool(quiet, opener) as pool:
        asking = asyncio.create_task(pool.get(HERE))
        await asyncio.sleep(0)
        pool.keep_only(())
        again = asyncio.create_task(pool.get(HERE))
        with pytest.raises(RegistryUnavailable):
            await asking
        assert (await again).state == "connected to memory"
        assert pool.states().keys() == {"memory://h:1"}


async def test_the_blocks_error_leaves_as_it_is_and_all_is_closed() -> None:
    opener = Opener()

    async def block() -> None:
        async with Pool(quiet, opener) as pool:
            await pool.get(HERE)
            raise KeyError("mine")

    with pytest.raises(KeyError):
        await block()
    assert opener.closed == [HERE]


async def test_a_session_that_never_closes_is_cut_off() -> None:
    opener = Opener()
    opener.closing = 3600
    async with asyncio.timeout(5), Pool(quiet, opener, closing=0.05) as pool:
        await pool.get(HERE)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_pool_that_opened_nothing_ends() -> None:
    async with Pool(quiet, Opener()):
        pass


async def test_a_session_that_fails_by_a_bug_ends_the_block() -> None:
    broken = asyncio.Event()

    @asynccontextmanager
    async def opener(locator: Locator, emit: Emit) -> AsyncIterator[Registry]:
        async with World().open(emit) as registry, asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            yield registry

    async def fail() -> None:
        await broken.wait()
        raise ZeroDivisionError

    async def block() -> None:
        async with Pool(quiet, opener) as pool:
            await pool.get(HERE)
            broken.set()
            await asyncio.sleep(3600)

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert caught.group_contains(ZeroDivisionError)
