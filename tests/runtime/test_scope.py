"""Servants end with the block that they serve, and each error leaves as what it is."""

from __future__ import annotations

import asyncio

import pytest

from dockstack.runtime.scope import servants


class Ours(Exception):
    pass


async def test_tasks_end_with_the_block() -> None:
    async with servants() as tasks:
        task = tasks.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
    assert task.cancelled()


async def test_the_blocks_own_error_is_not_wrapped() -> None:
    held: list[asyncio.Task[None]] = []

    async def block() -> None:
        async with servants() as tasks:
            held.append(tasks.create_task(asyncio.sleep(3600)))
            raise Ours("mine")

    with pytest.raises(Ours, match="mine"):
        await block()
    assert held[0].cancelled()


async def test_a_failing_task_ends_the_block() -> None:
    async def fail() -> None:
        raise Ours("theirs")

    async def block() -> None:
        async with servants() as tasks:
            tasks.create_task(fail())
            await asyncio.sleep(3600)

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert caught.group_contains(Ours, match="theirs")


async def test_a_cancelled_block_is_cancelled_and_its_tasks_too() -> None:
    held: list[asyncio.Task[None]] = []

    async def block() -> None:
        async with servants() as tasks:
            held.append(tasks.create_task(asyncio.sleep(3600)))
            await asyncio.sleep(3600)

    outer = asyncio.create_task(block())
    await asyncio.sleep(0)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert held[0].cancelled()
