"""One registry session per locator, shared by all services of the process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from dockstack.events import Emit, Event
from dockstack.registry import Locator, Registry, open_registry
from dockstack.registry.events import OfASession, SessionUsed
from dockstack.runtime.scope import servants

Open = Callable[[Locator, Emit], AbstractAsyncContextManager[Registry]]

CLOSING = 5.0
"""Seconds that all sessions together may take to close; then they are cut off."""


class Pool:
    """Opens each registry at its first use and closes all when the context ends, or those that nobody needs any more.

    A session lives in a task of its own from its opening to its closing. One that fails by a bug ends the context.
    """

    def __init__(self, emit: Emit, open_one: Open = open_registry, closing: float = CLOSING) -> None:
        self._emit = emit
        self._open = open_one
        self._closing = closing
        self._stack = AsyncExitStack()
        self._tasks: asyncio.TaskGroup
        self._sessions: set[asyncio.Task[None]] = set()
        self._ends: dict[Locator, asyncio.Event] = {}
        self._registries: dict[Locator, asyncio.Future[Registry]] = {}
        self._lent: Counter[Locator] = Counter()

    async def get(self, locator: Locator, user: str = "") -> Registry:
        """The session for this locator: equal locators give the same one. Raises what its opening raises.

        `user` is the service that asks, for the metrics.
        """
        ready = self._registries.get(locator)
        self._emit(SessionUsed(locator, ready is None, user))
        if ready is None:
            ready = self._registries[locator] = asyncio.get_running_loop().create_future()
            end = self._ends[locator] = asyncio.Event()
            task = self._tasks.create_task(self._keep(locator, ready, end, user))
            self._sessions.add(task)
            task.add_done_callback(self._sessions.discard)
        return await asyncio.shield(ready)

    async def borrow(self, locator: Locator) -> Registry:
        """As `get`; whoever calls it calls `give_back` in the end, also when this raises."""
        self._lent[locator] += 1
        return await self.get(locator)

    def give_back(self, locator: Locator) -> None:
        """A session that nobody has borrowed any more begins to close."""
        self._lent[locator] -= 1
        if not self._lent[locator]:
            del self._lent[locator]
            self.keep_only(self._registries.keys() - {locator})

    def keep_only(self, locators: Collection[Locator]) -> None:
        """Begins to close the other sessions; whoever asks for one of them again gets a new one."""
        for locator in [one for one in self._registries if one not in locators]:
            del self._registries[locator]
            self._ends.pop(locator).set()

    def states(self) -> Mapping[str, str]:
        """Each registry's state in one line, by the locator's text (which has no password)."""
        return {
            str(locator): ready.result().state if ready.done() and not ready.cancelled() else "opening"
            for locator, ready in self._registries.items()
        }

    async def _keep(self, locator: Locator, ready: asyncio.Future[Registry], end: asyncio.Event, user: str) -> None:
        def tell(event: Event) -> None:
            self._emit(replace(event, user=user) if isinstance(event, OfASession) else event)

        try:
            async with self._open(locator, tell) as registry:
                ready.set_result(registry)
                await end.wait()
        except Exception as error:
            if ready.done():
                raise
            if self._registries.get(locator) is ready:
                del self._registries[locator], self._ends[locator]
            ready.set_exception(error)
            ready.exception()  # whoever asked may be gone
        finally:
            ready.cancel()

    async def __aenter__(self) -> Self:
        self._tasks = await self._stack.enter_async_context(servants())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for end in self._ends.values():
            end.set()
        try:
            if self._sessions:
                await asyncio.wait(set(self._sessions), timeout=self._closing)
        finally:
            ended = await self._stack.__aexit__(kind, error, trace)
        return bool(ended)
