"""What a watcher yields and says, collected while a test goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from dockstack.events import Event
from dockstack.registry import Locator, Registry, Snapshot
from dockstack.synapse.watchers import Watcher


@dataclass
class Followed:
    """All snapshots so far, and all events."""

    seen: list[Snapshot] = field(default_factory=list)
    said: list[Event] = field(default_factory=list)

    @property
    def hosts(self) -> list[str]:
        """Those of the newest snapshot."""
        return [one.host for one in self.seen[-1].instances] if self.seen else []

    @property
    def problems(self) -> tuple[str, ...]:
        """Those of the newest snapshot."""
        return self.seen[-1].problems if self.seen else ()

    def has_said(self, text: str) -> bool:
        """Whether an event has this text in it."""
        return any(text in str(event) for event in self.said)

    @asynccontextmanager
    async def following(self, watcher: Watcher) -> AsyncIterator[None]:
        """Follows it while the context is open; a bug of it fails the test."""

        async def follow() -> None:
            async for snapshot in watcher.follow():
                self.seen.append(snapshot)

        task = asyncio.create_task(follow())
        try:
            yield
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.wait((task,))


class Sessions:
    """A pool with one session, or with none."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry

    async def get(self, locator: Locator) -> Registry:
        assert self._registry is not None, "no registry is opened here"
        return self._registry
