"""A mailbox with one slot: the newest value wins, so ten updates that nobody has read yet are one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds the newest value and wakes whoever waits for one that it has not seen."""

    __slots__ = ("_value", "_version", "_waiting")

    def __init__(self) -> None:
        self._value: T
        self._version = 0
        self._waiting: list[asyncio.Future[None]] = []

    def put(self, value: T) -> None:
        """Replaces the value and wakes the readers."""
        self._value = value
        self._version += 1
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def version(self) -> int:
        """How many values there have been."""
        return self._version

    def peek(self) -> T | None:
        """The newest value, or None while there is none."""
        return self._value if self._version else None

    def newer(self, version: int) -> asyncio.Future[None]:
        """A future that is done when there is a value newer than `version`; whoever needs it no more cancels it."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._version > version:
            waiter.set_result(None)
        else:
            self._waiting.append(waiter)
            waiter.add_done_callback(self._waiting.remove)
        return waiter

    async def after(self, version: int) -> tuple[int, T]:
        """The newest version and value as soon as there is one newer than `version` (0: any)."""
        while self._version <= version:
            await self.newer(version)
        return self._version, self._value

    async def __aiter__(self) -> AsyncIterator[T]:
        """Each value that is the newest when the reader comes back for one; begins with the present one."""
        version = 0
        while True:
            version, value = await self.after(version)
            yield value
