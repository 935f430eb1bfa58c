"""The method `zookeeper_poll`: a path of a ZooKeeper ensemble, read again and again, without watches."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic

from dockstack.errors import ConfigurationError, Problem, RegistryUnavailable
from dockstack.events import Emit
from dockstack.registry import Decoder, Locator, Reader, Snapshot
from dockstack.registry.url import fold
from dockstack.runtime import loops
from dockstack.settings.discovery import ZookeeperPollSource
from dockstack.synapse.watchers import Sessions, Watcher
from dockstack.synapse.watchers._registry import config_path, decoder, discovered
from dockstack.synapse.watchers.zookeeper import locator

SHORTEST = 0.5
"""Seconds between two reads at the least, whatever the settings say: SmartStack's pace, too."""


@dataclass(frozen=True, slots=True)
class PollingWatcher:
    """Reads `path` at once and then each `interval` seconds. `config_path` is as for a watcher that is told.

    The second read comes after a part of the interval only, by chance, so that hosts that started together spread.
    """

    locator: Locator
    path: str
    decoder: Decoder
    config_path: str | None
    interval: float
    sessions: Sessions
    emit: Emit

    async def follow(self) -> AsyncIterator[Snapshot]:
        """Each read that found something else than the one before. A failed one is tried again within a second."""
        last = None
        what = f"reading {self.locator}, path {self.path},"
        pause = self.interval * random.random()
        registry = await self._reader()
        while True:
            snapshot = await loops.until_done(what, partial(self._read, registry), (RegistryUnavailable,), self.emit)
            if snapshot != last:
                last = snapshot
                yield snapshot
            await asyncio.sleep(max(SHORTEST, pause))
            pause = self.interval

    async def _reader(self) -> Reader:
        registry = await self.sessions.get(self.locator)
        if not isinstance(registry, Reader):
            raise ConfigurationError(Problem(str(self.locator), "this registry cannot be polled"))
        return registry

    async def _read(self, registry: Reader) -> Snapshot:
        began = monotonic()
        snapshot = await registry.read(self.path, self.decoder)
        self.emit(discovered(self.locator, self.path, snapshot, began, polled=True))
        if self.config_path == self.path:
            return snapshot
        if self.config_path is None:
            return replace(snapshot, data=b"")
        return replace(snapshot, data=(await registry.read(self.config_path, self.decoder)).data)


def build(settings: ZookeeperPollSource, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher of a path. Raises ConfigurationError where hosts or auth cannot be read."""
    path = fold(settings.path)
    return PollingWatcher(
        locator=locator(settings),
        path=path,
        decoder=decoder(settings.decode),
        config_path=config_path(settings, path),
        interval=settings.polling_interval_sec,
        sessions=sessions,
        emit=emit,
    )
