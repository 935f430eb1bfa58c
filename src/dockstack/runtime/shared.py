"""A call that many want at the same time is made once, and its outcome is everybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Makes one call at a time."""

    __slots__ = ("_outcome",)

    def __init__(self) -> None:
        self._outcome: asyncio.Future[T] | None = None

    async def call(self, action: Callable[[], Awaitable[T]]) -> T:
        """The outcome of `action`, or of the call under way; if that is cancelled, another one makes its own."""
        while self._outcome is not None:
            outcome = self._outcome
            await asyncio.wait((outcome,))
            if not outcome.cancelled():
                return outcome.result()
        outcome = self._outcome = asyncio.get_running_loop().create_future()
        try:
            result = await action()
        except Exception as error:
            outcome.set_exception(error)
            outcome.exception()  # there may be nobody else
            raise
        else:
            outcome.set_result(result)
            return result
        finally:
            self._outcome = None
            outcome.cancel()
