"""The one place where an expected failure is tried again. Everything else that is raised is a bug and goes up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from dockstack.events import Emit, Retrying
from dockstack.runtime.pace import next_beat, pauses

T = TypeVar("T")


async def until_done(
    what: str,
    action: Callable[[], Awaitable[T]],
    expected: tuple[type[Exception], ...],
    emit: Emit,
    cap: float = 1.0,
) -> T:
    """The result of `action`, tried again after each expected failure, with jittered pauses of at most `cap` seconds.

    The action sets its own deadlines. `what` completes the sentence "... failed: reason; trying again".
    """
    for pause in pauses(cap, random.random):
        try:
            return await action()
        except expected as error:
            emit(Retrying(what, str(error) or type(error).__name__, pause))
        await asyncio.sleep(pause)
    raise AssertionError("pauses() never ends")


async def follow(
    what: str,
    open_stream: Callable[[], AsyncIterator[T]],
    expected: tuple[type[Exception], ...],
    emit: Emit,
    cap: float = 1.0,
) -> AsyncIterator[T]:
    """The values of a stream that is opened again after each expected failure; the pauses start over after a value."""
    waits = pauses(cap, random.random)
    while True:
        try:
            async for value in open_stream():
                waits = pauses(cap, random.random)
                yield value
            return
        except expected as error:
            pause = next(waits)
            emit(Retrying(what, str(error) or type(error).__name__, pause))
        await asyncio.sleep(pause)


async def beats(interval: float, first: float = 0.0, phase: float | None = None) -> AsyncIterator[None]:
    """Wakes after `first` seconds, and then each `interval` seconds on a fixed grid; a slow consumer skips beats.

    The grid begins after `phase` seconds (None: with the first beat); the second beat is at least half an interval
    behind the first.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    grid = start + (first if phase is None else phase)
    await asyncio.sleep(first)
    yield
    now = max(loop.time(), start + first + interval / 2)
    while True:
        await asyncio.sleep(next_beat(grid, interval, now) - loop.time())
        yield
        now = loop.time()
