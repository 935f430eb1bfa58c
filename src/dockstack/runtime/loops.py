"""The one place where an expected failure is tried again. Everything else that is raised is a bug and goes up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from dockstack.events import Emit, Recovered, Retrying
from dockstack.runtime.pace import next_beat, pauses

T = TypeVar("T")

_SETTLED = 1.0  # seconds that a stream must have lived


class _Failing:
    """Tells each failure of one thing, and its end."""

    def __init__(self, what: str, emit: Emit) -> None:
        self._what = what
        self._emit = emit
        self._since: float | None = None

    def goes_on(self, error: Exception, pause: float) -> None:
        if self._since is None:
            self._since = asyncio.get_running_loop().time()
        self._emit(Retrying(self._what, str(error) or type(error).__name__, pause))

    def is_over(self) -> None:
        if self._since is not None:
            self._emit(Recovered(self._what, asyncio.get_running_loop().time() - self._since))
            self._since = None


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
    failing = _Failing(what, emit)
    cancelled = _cancellations()
    for pause in pauses(cap, random.random):
        try:
            done = await action()
        except expected as error:
            _heed_cancellation(cancelled)
            failing.goes_on(error, pause)
        else:
            failing.is_over()
            return done
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
    """The values of a stream that is opened again after each expected failure.

    The pauses start over after a stream that gave a value and lived for a second: one that breaks as soon as it is
    opened, over and over, is not opened in a busy loop.

    `gently`: not at once, and with pauses from about a second on, for a service that counts requests.
    """
    first = 1.0 if gently else 0.05
    waits = pauses(cap, random.random, first, not gently)
    failing = _Failing(what, emit)
    clock = asyncio.get_running_loop().time
    cancelled = _cancellations()
    while True:
        opened, given = clock(), False
        try:
            async for value in open_stream():
                failing.is_over()
                given = True
                yield value
            return
        except expected as error:
            _heed_cancellation(cancelled)
            if given and clock() - opened >= _SETTLED:
                waits = pauses(cap, random.random, first, not gently)
            pause = next(waits)
            failing.goes_on(error, pause)
        await asyncio.sleep(pause)


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _heed_cancellation(before: int) -> None:
    """A failure on the way out of a cancelled task hides the cancellation: a connection that cannot be closed, or,
    before Python 3.13, a task group that fails. Those that were there `before` are no news to who cleans up."""
    if _cancellations() > before:
        raise asyncio.CancelledError


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


async def spaced(news: asyncio.Event, spacing: Callable[[], float]) -> AsyncIterator[None]:
    """Wakes for news, which is cleared then: at once, but not before so many seconds after the last ones were dealt
    with as `spacing` then says. While there are none it does not wake at all.
    """
    loop = asyncio.get_running_loop()
    free = loop.time()
    while True:
        await news.wait()
        if free > loop.time():
            await asyncio.sleep(free - loop.time())
        news.clear()
        yield
        free = loop.time() + spacing()
