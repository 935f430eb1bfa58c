"""Retries: expected errors only, with growing pauses that start over after a success."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from dockstack.errors import RegistryUnavailable
from dockstack.events import Event, Recovered, Retrying
from dockstack.runtime.loops import beats, follow, until_done

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
