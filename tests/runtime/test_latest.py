"""The one-slot mailbox: the newest value wins, and every reader gets it."""

from __future__ import annotations

import asyncio

from dockstack.runtime.latest import Latest


async def test_values_that_nobody_read_are_one() -> None:
    box: Latest[int] = Latest()
    for value in range(10):
        box.put(value)
    version, value = await box.after(0)
    assert (version, value) == (10, 9)
    assert box.peek() == 9


async def test_a_reader_waits_for_something_newer_than_it_has_seen() -> None:
    box: Latest[str] = Latest()
    box.put("old")
    version, _ = await box.after(0)
    waiting = asyncio.ensure_future(box.after(version))
    await asyncio.sleep(0)
    assert not waiting.done()
    box.put("new")
    assert (await waiting)[1] == "new"


async def test_two_readers_both_see_the_newest_value() -> None:
    box: Latest[int] = Latest()

    async def first_from_two() -> int:
        async for value in box:
            if value >= 2:
                return value
        raise AssertionError

    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        readers = [group.create_task(first_from_two()) for _ in range(2)]
        for value in range(3):
            box.put(value)
            await asyncio.sleep(0)
    assert [reader.result() for reader in readers] == [2, 2]


async def test_an_empty_mailbox_says_so_and_a_cancelled_reader_leaves_nothing() -> None:
    box: Latest[int] = Latest()
    assert box.peek() is None
    reader = asyncio.ensure_future(box.after(0))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    box.put(1)
    assert await box.after(0) == (1, 1)
