"""The registry inside the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from dockstack.registry import Lease, Registry
from dockstack.registry.codec import sequence_of
from dockstack.registry.memory import World as Memory
from tests.contract.recording import quiet
from tests.contract.worlds import no


class MemoryWorld:
    name = "memory"
    patience = 1.0

    def __init__(self) -> None:
        self._memory = Memory()

    def registry(self) -> AbstractAsyncContextManager[Registry]:
        return self._memory.open(quiet)

    def number(self, lease: Lease) -> int | None:
        return sequence_of(lease.node)

    async def break_(self) -> None:
        self._memory.break_()

    async def heal(self) -> None:
        self._memory.heal()

    async def cut(self) -> None:
        no("there is no connection")

    async def cut_in_reply(self, after: int) -> asyncio.Event:
        no("there is no connection")

    async def silence(self) -> None:
        no("there is no server")

    async def expire(self, registry: Registry) -> None:
        self._memory.expire(registry)

    async def restart(self) -> None:
        no("there is no server")

    async def write(self, path: str, name: str, data: bytes) -> None:
        self._memory.write(path, name, data)

    async def fill(self, path: str, count: int) -> None:
        for number in range(count):
            self._memory.write(path, f"fill_{number:010d}", b'{"host":"10.0.0.1","port":%d}' % (number + 1))

    async def delete(self, path: str, name: str) -> None:
        self._memory.delete(path, name)

    async def nodes(self, path: str) -> dict[str, bytes]:
        return self._memory.nodes(path)


@asynccontextmanager
async def memory_world() -> AsyncIterator[MemoryWorld]:
    yield MemoryWorld()
