"""Retries: expected errors only, with growing pauses that start over after a success."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from dockstack.errors import RegistryUnavailable
from dockstack.events import Event, Recovered, Retrying
from dockstack.runtime.loops import beats, follow, spaced, until_done

pytestmark = pytest.mark.looptime


async def test_an_expected_failure_is_tried_again_and_told() -> None:
    told: list[Event] = []
    left = 3

    async def action() -> str:
        nonlocal left
        left -= 1
        if left:
            raise RegistryUnavailable("no answer from 127.0.0.1:2181")
        return "done"

    assert await until_done("registering web", action, (RegistryUnavailable,), told.append) == "done"
    assert [str(event).split(";")[0] for event in told] == [
        "registering web failed: no answer from 127.0.0.1:2181",
        "registering web failed: no answer from 127.0.0.1:2181",
        "registering web works again, after 0.0 s",
    ]


async def test_what_works_at_once_is_not_told() -> None:
    async def action() -> str:
        return "done"

    told: list[Event] = []
    assert await until_done("registering web", action, (RegistryUnavailable,), told.append) == "done"
    assert not told


async def test_a_bug_goes_up_at_once() -> None:
    async def action() -> None:
        raise KeyError("bug")

    told: list[Event] = []
    with pytest.raises(KeyError):
        await until_done("x", action, (RegistryUnavailable,), told.append)
    assert not told


async def test_a_stream_is_opened_again_and_one_that_lived_resets_the_pauses() -> None:
    told: list[Event] = []
    opened = 0

    async def stream() -> AsyncIterator[int]:
        nonlocal opened
        opened += 1
        if opened in (1, 2, 3, 5):
            raise RegistryUnavailable("gone")
        yield opened
        if opened == 4:
            await asyncio.sleep(2)
            raise RegistryUnavailable("gone again")

    assert [value async for value in follow("web", stream, (RegistryUnavailable,), told.append)] == [4, 6]
    pauses = [event.pause for event in told if isinstance(event, Retrying)]
    assert pauses[0] == 0
    assert 0 < pauses[1] < pauses[2] * 2
    assert pauses[3] == 0
    assert [type(event) for event in told] == [*[Retrying] * 3, Recovered, *[Retrying] * 2, Recovered]


async def test_a_stream_that_breaks_as_soon_as_it_is_opened_is_not_opened_in_a_busy_loop() -> None:
    opened = 0

    async def stream() -> AsyncIterator[int]:
        nonlocal opened
        opened += 1
        yield opened
        if opened < 100:
            raise RegistryUnavailable("refused")

    clock = asyncio.get_running_loop().time
    began = clock()
    assert [value async for value in follow("web", stream, (RegistryUnavailable,), lambda _: None)][-1] == 100
    assert clock() - began > 40


async def test_a_stream_that_gives_nothing_is_opened_again_later_each_time_and_each_failure_is_timed() -> None:
    told: list[Event] = []
    opened = 0

    async def stream() -> AsyncIterator[int]:
        nonlocal opened
        opened += 1
        await asyncio.sleep(10)
        if opened < 12 or opened == 13:
            raise RegistryUnavailable("no answer")
        yield opened
        await asyncio.sleep(10)
        if opened < 14:
            raise RegistryUnavailable("gone")

    assert [value async for value in follow("web", stream, (RegistryUnavailable,), told.append)] == [12, 14]
    pauses = [event.pause for event in told if isinstance(event, Retrying)]
    sizes = (0, 0.05, 0.1, 0.2, 0.4, 0.8, 1, 1, 1, 1, 1, 0, 0.05)
    assert all(size / 2 <= pause <= size for pause, size in zip(pauses, sizes, strict=True))
    first, second = (event.seconds for event in told if isinstance(event, Recovered))
    assert 100 < first < 120
    assert 10 <= second < 30


async def test_a_service_that_counts_requests_is_asked_again_gently() -> None:
    told: list[Event] = []
    opened = 0

    async def stream() -> AsyncIterator[int]:
        nonlocal opened
        opened += 1
        if opened < 5:
            raise RegistryUnavailable("gone")
        yield opened

    found = follow("web", stream, (RegistryUnavailable,), told.append, 3.0, gently=True)
    assert [value async for value in found] == [5]
    pauses = [event.pause for event in told if isinstance(event, Retrying)]
    assert all(size / 2 <= pause <= size for pause, size in zip(pauses, (1, 2, 3, 3), strict=True))


async def test_a_cancellation_counts_that_comes_together_with_a_failure() -> None:
    opened = 0

    async def fails() -> None:
        reader.cancel()
        raise RegistryUnavailable("gone")

    async def stream() -> AsyncIterator[int]:
        nonlocal opened
        opened += 1
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await asyncio.Event().wait()
                yield 1
        except* RegistryUnavailable:
            raise RegistryUnavailable("gone") from None

    async def read() -> None:
        async for _ in follow("reading", stream, (RegistryUnavailable,), lambda _: None):
            pass

    reader = asyncio.create_task(read())
    await asyncio.wait((reader,), timeout=1)
    assert reader.cancelled()
    assert opened == 1


async def test_a_cancellation_counts_where_the_action_fails_on_its_way_out() -> None:
    tries = 0

    async def action() -> None:
        nonlocal tries
        tries += 1
        try:
            await asyncio.Event().wait()
        finally:
            raise RegistryUnavailable("it cannot be closed")

    task = asyncio.create_task(until_done("x", action, (RegistryUnavailable,), lambda _: None))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait((task,), timeout=10)
    assert task.cancelled()
    assert tries == 1


async def test_who_cleans_up_after_a_cancellation_tries_again() -> None:
    results: list[Exception | str] = [RegistryUnavailable("gone"), RegistryUnavailable("gone"), "withdrawn"]
    done: list[str] = []

    async def action() -> str:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            done.append(await until_done("x", action, (RegistryUnavailable,), lambda _: None))

    task = asyncio.create_task(work())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait((task,), timeout=10)
    assert task.cancelled()
    assert done == ["withdrawn"]


async def test_beats_keep_the_grid_when_a_round_was_slow() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    seen: list[float] = []
    async for _ in beats(1.0, first=0.25):
        seen.append(round(loop.time() - start, 3))
        if len(seen) == 2:
            await asyncio.sleep(2.5)
        if len(seen) == 4:
            break
    assert seen == [0.25, 1.25, 4.25, 5.25]


@pytest.mark.parametrize(
    ("phase", "expected"), [(None, [0, 10, 20]), (4.0, [0, 14, 24]), (5.0, [0, 15, 25]), (6.0, [0, 6, 16])]
)
async def test_the_second_beat_is_on_the_grid_and_half_an_interval_behind_the_first(
    phase: float | None, expected: list[float]
) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    seen: list[float] = []
    async for _ in beats(10.0, phase=phase):
        seen.append(round(loop.time() - start, 3))
        if len(seen) == 3:
            break
    assert seen == expected


async def test_news_wake_at_once_and_then_in_their_spacing() -> None:
    loop = asyncio.get_running_loop()
    news = asyncio.Event()
    woken: list[float] = []

    async def consume() -> None:
        async for _ in spaced(news, lambda: 1.0):
            woken.append(loop.time())
            await asyncio.sleep(0.25)  # what is done for them

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        consumer = group.create_task(consume())
        start = loop.time()
        for pause in (5.0, 0.5, 0.5, 0.5, 5.0):
            await asyncio.sleep(pause)
            news.set()
        await asyncio.sleep(2.0)
        consumer.cancel()
    assert [round(one - start, 3) for one in woken] == [5.0, 6.25, 7.5, 11.5]
