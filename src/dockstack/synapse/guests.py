"""Watchers and outputs of somebody else's: whatever they raise is told and tried again, and ends nothing of ours.

What they find is looked at as if it stood in a registry: an instance that would break HAProxy's file is left out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dockstack.errors import ConfigurationError, DockStackError, Problem
from dockstack.events import Emit, Warn
from dockstack.model import Instance
from dockstack.registry import Snapshot
from dockstack.registry.codec import NerveDecoder
from dockstack.runtime import loops
from dockstack.runtime.latest import Latest
from dockstack.settings.discovery import PluginDiscovery
from dockstack.synapse.haproxy.document import Picture
from dockstack.synapse.output import Output
from dockstack.synapse.watchers import Sessions, Watcher

SLOWEST = 10.0
"""Seconds between two tries at the most."""

CLOSING = 5.0
"""Seconds that an output may take to close."""

T = TypeVar("T")


class GuestFailed(DockStackError):
    """A plug-in did what it must not do."""


@dataclass(frozen=True, slots=True)
class GuestWatcher:
    """`watcher`, begun again whenever it fails. `what` is what messages call it."""

    what: str
    watcher: Watcher
    emit: Emit

    async def follow(self) -> AsyncIterator[Snapshot]:
        """Its snapshots, without what is not fit to be served."""
        async for snapshot in loops.follow(self.what, self._open, (Exception,), self.emit, SLOWEST):
            yield snapshot

    async def _open(self) -> AsyncIterator[Snapshot]:
        with _no_end_of_ours():
            stream = aiter(self.watcher.follow())
        try:
            while True:
                with _no_end_of_ours():
                    try:
                        snapshot = await anext(stream)
                    except StopAsyncIteration:
                        return
                if not isinstance(snapshot, Snapshot):
                    raise GuestFailed(f"it gave {snapshot!r}, which is no snapshot")
                yield fit(snapshot, self.what)
        finally:
            await _close(stream)


async def _close(stream: AsyncIterator[Snapshot]) -> None:
    if isinstance(stream, AsyncGenerator):
        with _no_end_of_ours():
            async with asyncio.timeout(CLOSING):
                await stream.aclose()


@contextmanager
def _no_end_of_ours() -> Iterator[None]:
    """Around third-party code: what would end the program or the task, and did not come from us, is a failure of it.

    And what did come from us counts, also where the code has kept it to itself.
    """
    try:
        yield
    except SystemExit as error:
        raise GuestFailed(f"it wanted to exit: {error.code}") from error
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        raise GuestFailed("something that it waited for was cancelled") from error
    if _is_cancelled():
        raise asyncio.CancelledError


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def fit(snapshot: Snapshot, what: str) -> Snapshot:
    """The snapshot without instances that nothing could be made of; each is named in the problems. Pure.

    Raises GuestFailed where the snapshot as a whole is of no use.
    """
    if not isinstance(snapshot.data, bytes):
        raise GuestFailed(f"it gave a snapshot whose data are {type(snapshot.data).__name__}, and not bytes")
    instances: list[Instance] = []
    problems: list[str] = []
    for one in snapshot.instances:
        try:
            instances.append(_checked(one))
        except (AttributeError, TypeError, ValueError) as error:
            problems.append(f"{what}: {one!r} is left out: {error}")
    return Snapshot(tuple(instances), snapshot.data, (*map(str, snapshot.problems), *problems))


def _checked(instance: Instance) -> Instance:
    if not (instance.id is None or type(instance.id) is int):
        raise ValueError(f"the id {instance.id!r} is no whole number")
    fields = {
        "host": instance.host,
        "port": instance.port,
        "name": instance.name,
        "weight": instance.weight,
        "haproxy_server_options": instance.haproxy_server_options,
        "labels": None if instance.labels is None else json.loads(instance.labels),
    }
    return NerveDecoder().from_fields(fields, instance.id)


class GuestOutput:
    """An output that is begun again whenever it fails, or ends by itself."""

    def __init__(self, name: str, output: Output, emit: Emit) -> None:
        self._what = f"the output {name}"
        self._output = output
        self._emit = emit
        self._complaint = ""

    @property
    def ready(self) -> bool:
        """Whether a picture has been carried out in full."""
        return self._told(lambda: bool(self._output.ready), False)

    @property
    def serving(self) -> bool:
        """Whether it does its work, as far as is known."""
        return not self._complaint and self._told(lambda: bool(self._output.serving), False)

    @property
    def trouble(self) -> tuple[str, ...]:
        """Why not all that is wanted is carried out, in sentences."""
        otherwise: tuple[str, ...] = (f"{self._what} does not tell how it is",)
        own = self._told(lambda: tuple(map(str, self._output.trouble)), otherwise)
        return (self._complaint, *own) if self._complaint else own

    async def run(self, pictures: Latest[Picture]) -> None:
        """Runs it, for ever."""

        async def attempt() -> None:
            self._complaint = ""
            try:
                with _no_end_of_ours():
                    await self._output.run(pictures)
                raise GuestFailed("it has ended by itself")
            except Exception as error:
                self._complaint = f"{self._what} is begun again: {error or type(error).__name__}"
                raise

        await loops.until_done(self._what, attempt, (Exception,), self._emit, SLOWEST)

    async def close(self) -> None:
        """Ends it, within a limit."""
        try:
            async with asyncio.timeout(CLOSING):
                with _no_end_of_ours():
                    await self._output.close()
        except Exception as error:  # noqa: BLE001 - third-party code: the others must still be ended
            self._emit(Warn(f"{self._what} could not be closed: {error!r}"))

    def _told(self, ask: Callable[[], T], otherwise: T) -> T:
        try:
            return ask()
        except Exception:  # noqa: BLE001 - third-party code: its bug must not end what asks for its health
            return otherwise


def watcher(
    build: Callable[..., Any], settings: PluginDiscovery, sessions: Sessions, where: str, emit: Emit
) -> GuestWatcher:
    """The watcher that the plug-in builds. Raises ConfigurationError where it cannot."""
    made = _built(lambda: build(settings, sessions, emit), where)
    return GuestWatcher(f"the watcher of {where.removesuffix('.method')} ({settings.method})", made, emit)


def output(build: Callable[..., Any], name: str, section: Any, state_dir: Path, emit: Emit) -> GuestOutput:
    """The output that the plug-in builds of its section. Raises ConfigurationError where it cannot."""
    fields: Mapping[str, Any] = section or {}
    return GuestOutput(name, _built(lambda: build(fields, state_dir, emit), name), emit)


def _built(build: Callable[[], Any], where: str) -> Any:
    try:
        return build()
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(Problem(where, f"the plug-in refuses these settings: {error!r}")) from error
