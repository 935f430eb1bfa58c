"""Following one path of a registry: what the methods `zookeeper` and `file` share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import monotonic

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit
from dockstack.registry import Decoder, Locator, Snapshot
from dockstack.registry.codec import NerveDecoder, ServersetDecoder
from dockstack.registry.url import fold
from dockstack.runtime import loops
from dockstack.settings.discovery import DecodeSettings, Discovery
from dockstack.synapse.events import Discovered
from dockstack.synapse.watchers import Sessions


@dataclass(frozen=True, slots=True)
class RegistryWatcher:
    """Follows `path`.

    `config_path` is where the snapshots' data is read: `path` itself, another path, or None for no data. `pause`: a
    read less than so many seconds after the last one waits until they are over, and then sees the newest state.
    """

    locator: Locator
    path: str
    decoder: Decoder
    config_path: str | None
    pause: float
    sessions: Sessions
    emit: Emit

    def follow(self) -> AsyncIterator[Snapshot]:
        """The instances below the path and the configuration data, at once and whenever either has changed."""
        if self.config_path == self.path:
            return self._paced(self._read(self.path))
        if self.config_path is None:
            return self._paced(_without_data(self._read(self.path)))
        return self._paced(_with_data_of(self._read(self.path), self._read(self.config_path)))

    async def _paced(self, snapshots: AsyncGenerator[Snapshot, None]) -> AsyncIterator[Snapshot]:
        clock = asyncio.get_running_loop().time
        async with aclosing(snapshots):
            async for snapshot in snapshots:
                read = clock()
                yield snapshot
                if self.pause:
                    await asyncio.sleep(read + self.pause - clock())

    async def _read(self, path: str) -> AsyncGenerator[Snapshot, None]:
        what = f"following {self.locator}, path {path},"
        async for snapshot in loops.follow(what, lambda: self._open(path), (RegistryUnavailable,), self.emit):
            yield snapshot

    async def _open(self, path: str) -> AsyncIterator[Snapshot]:
        began: float | None = monotonic()
        registry = await self.sessions.get(self.locator)
        async for snapshot in registry.watch(path, self.decoder):
            self.emit(discovered(self.locator, path, snapshot, began))
            began = None  # of the others only the registry's session knows when they began
            yield snapshot


async def _without_data(snapshots: AsyncIterator[Snapshot]) -> AsyncGenerator[Snapshot, None]:
    async for snapshot in snapshots:
        yield replace(snapshot, data=b"")


async def _with_data_of(
    snapshots: AsyncIterator[Snapshot], others: AsyncIterator[Snapshot]
) -> AsyncGenerator[Snapshot, None]:
    """The newest of `snapshots` with the data of the newest of `others`, once there is one of each.

    A read in flight cannot be asked for and left, so each is a task of its own; they end with this iterator.
    """
    streams = (snapshots, others)
    newest: list[Snapshot | None] = [None, None]
    reads: list[asyncio.Task[Snapshot] | None] = [None, None]
    try:
        while True:
            for at, stream in enumerate(streams):
                reads[at] = reads[at] or asyncio.ensure_future(_next(stream))
            await asyncio.wait([one for one in reads if one], return_when=asyncio.FIRST_COMPLETED)
            for at, one in enumerate(reads):
                if one is not None and one.done():
                    newest[at], reads[at] = one.result(), None
            instances, config = newest
            if instances is not None and config is not None:
                yield replace(instances, data=config.data)
    finally:
        left = [one for one in reads if one]
        for one in left:
            one.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _next(stream: AsyncIterator[Snapshot]) -> Snapshot:
    return await anext(stream)


def discovered(
    locator: Locator, path: str, snapshot: Snapshot, began: float | None, polled: bool = False
) -> Discovered:
    """What the metrics count: a read that began at that moment (monotonic seconds), if it is known."""
    seconds = None if began is None else monotonic() - began
    size = sum(len(instance.name or "") for instance in snapshot.instances)
    return Discovered(locator, path, seconds, size, len(snapshot.problems), polled, snapshot.spent, snapshot.missing)


def decoder(settings: DecodeSettings) -> Decoder:
    """How the nodes are read; equal settings give equal decoders."""
    return ServersetDecoder(settings.endpoint_name) if settings.method == "serverset" else NerveDecoder()


def config_path(settings: Discovery, path: str) -> str | None:
    """Where a service's configuration is read: below the path that is watched, unless the settings say otherwise."""
    if settings.generator_config_path is None:
        return path
    return None if settings.generator_config_path == "disabled" else fold(settings.generator_config_path)
