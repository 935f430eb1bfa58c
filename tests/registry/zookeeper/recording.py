"""What the tests write, and the events that a session has told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from dockstack.events import Event
from dockstack.model import Instance
from dockstack.registry import Locator, NodeKind, Registration
from dockstack.registry.codec import NerveDecoder
from dockstack.registry.zookeeper import ZooKeeper
from dockstack.registry.zookeeper import open as open_zookeeper
from tests.waiting import eventually

PATH = "/a/path"
NERVE = NerveDecoder()

E = TypeVar("E", bound=Event)


class Log:
    """All events, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[E], count: int = 1, limit: float = 10.0) -> E:
        """Waits for the event number `count` of this kind, and returns it."""
        await eventually(lambda: len(self.of(kind)) >= count, f"{count} times {kind.__name__}", limit)
        return self.of(kind)[count - 1]


@asynccontextmanager
async def opened(locator: Locator, log: Log | None = None, persistent: bool = True) -> AsyncIterator[ZooKeeper]:
    async with open_zookeeper(locator, log or Log(), persistent_watches=persistent) as registry:
        assert isinstance(registry, ZooKeeper)
        yield registry


def copy(
    number: int, key: str = "", *, name: str = "i", path: str = PATH, kind: NodeKind = NodeKind.EPHEMERAL_SEQUENTIAL
) -> Registration:
    """The registration of the copy with this number, which is its port, too."""
    return Registration(key or f"copy {number}", path, Instance("10.0.0.1", number, name), kind)
