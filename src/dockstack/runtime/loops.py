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
    *,
    gently: bool = False,
) -> AsyncIterator[T]:
    """The values of a stream that is opened again after each expected failure; the pauses start over after a value.

    `gently`: not at once, and with pauses from about a second on, for a service that counts requests.
    """
    first = 1.0 if gently else 0.05
    waits = pauses(cap, random.random, first, not gently)
    while True:
        try:
            async for value in open_stream():
                waits = pauses(cap, random.random, first, not gently)
                yield value
            return
        except expected as error:
            pause = next(waits)
            emit(Retrying(what, str(error) or type(error).__name__, pause))
        await asyncio.sleep(pause)


async def beats(interval: float, first: float = 0.0) -> AsyncIterator[None]:
    """Wakes after `first` seconds and then each `interval` seconds on a fixed grid; a slow consumer skips beats."""
    loop = asyncio.get_running_loop()
    start = loop.time() + first
    await asyncio.sleep(first)
    while True:
        yield
        await asyncio.sleep(next_beat(start, interval, loop.time()) - loop.time())
