"""The nerve daemon: checks services and keeps the healthy ones registered, until SIGTERM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dockstack.admin.report import Report
from dockstack.admin.server import serve
from dockstack.docker.containers import Picture
from dockstack.docker.engine import follow
from dockstack.errors import ConfigurationError
from dockstack.events import Emit, Reconfigured, Warn, fan_out
from dockstack.nerve import heartbeat
from dockstack.nerve.labelled import Labels
from dockstack.nerve.metrics import metrics
from dockstack.nerve.provider import Provider
from dockstack.nerve.roster import Roster
from dockstack.nerve.service import Service, plan
from dockstack.registry.pool import Pool
from dockstack.runtime.changes import Sources, tell_changes
from dockstack.runtime.latest import Latest
from dockstack.runtime.process import socket_in, terminated
from dockstack.runtime.scope import living, servants
from dockstack.settings.nerve import NerveSettings
from dockstack.statsd.sender import sending

SOCKET = "nerve.sock"


@dataclass(frozen=True, slots=True)
class Options:
    """What is not in the file: directories, seconds between the withdrawal and the end, how to read the settings
    again, the file that they are in, and what counts for the services of labels (None: labels do not count)."""

    run_dir: Path
    state_dir: Path
    drain: float = 0.0
    reload: Callable[[], NerveSettings] | None = None
    config: Path | None = None
    labels: Callable[[NerveSettings], Labels] | None = None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One reading of the configuration."""

    settings: NerveSettings
    services: tuple[Service, ...]
    labels: Labels | None


async def run(settings: NerveSettings, options: Options, emit: Emit) -> None:
    """The whole life of the daemon; returns after SIGTERM or SIGINT, when every service is withdrawn.

    SIGHUP, or a change of their files, reads the settings again; `statsd` is that of the start. Raises
    ConfigurationError before anything is started when a service cannot be run as its settings are, or the Unix socket's
    path is too long.
    """
    wanted = _wanted(settings, options)
    socket = socket_in(options.run_dir, SOCKET)
    async with sending(settings.statsd, metrics) as count:
        tell = fan_out(emit, count)
        with living(tell):
            await _live(wanted, socket, options, tell)


async def _live(wanted: _Wanted, socket: Path, options: Options, emit: Emit) -> None:
    hangup = asyncio.Event()
    async with terminated(hangup.set) as stop, Pool(emit) as pool:
        async with asyncio.TaskGroup() as group:
            roster = Roster(group, pool.get, emit)
            roster.change(wanted.services)
            provider = None if wanted.labels is None else Provider(Roster(group, pool.get, emit), emit)
            pictures: Latest[Picture] = Latest()

            def see() -> None:
                now = pictures.peek()
                if provider is not None and wanted.labels is not None and now is not None:
                    provider.see(now, wanted.services, wanted.labels.terms, wanted.labels.where)

            def health() -> Report:
                reports = (roster.health(), *(() if provider is None else (provider.health(),)))
                registries = (f"{at}: {state}" for at, state in pool.states().items())
                return Report(all(one.ok for one in reports), (*_lines(reports), *registries))

            def ready() -> Report:
                reports = (roster.ready(), *(() if provider is None else (provider.ready(),)))
                return Report(all(one.ok for one in reports), _lines(reports))

            async with serve(socket, health, ready), servants() as beside:
                beside.create_task(heartbeat.beat(lambda: wanted.settings.heartbeat_path, lambda: health().ok, emit))
                if wanted.labels is not None:
                    beside.create_task(follow(wanted.labels.engine, pictures, emit))
                    beside.create_task(_at_each(pictures, see))
                if options.reload is not None:
                    sources = Sources(options.config, wanted.settings.service_conf_dir, options.reload)
                    beside.create_task(tell_changes(sources.files, hangup, emit))
                while not await _stopped(stop, hangup):
                    hangup.clear()
                    if options.reload is not None:
                        fresh = await _read_again(sources.read, options, emit)
                        if fresh is not None:
                            wanted = fresh
                            roster.change(wanted.services)
                            see()
                if provider is not None:
                    provider.end()
                roster.end()
        await asyncio.sleep(options.drain)


async def _stopped(stop: asyncio.Event, hangup: asyncio.Event) -> bool:
    waiting = {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(hangup.wait())}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return stop.is_set()


async def _at_each(pictures: Latest[Picture], see: Callable[[], None]) -> None:
    async for _ in pictures:
        see()


def _lines(reports: Iterable[Report]) -> tuple[str, ...]:
    return tuple(line for report in reports for line in report.lines)


def _wanted(settings: NerveSettings, options: Options) -> _Wanted:
    labels = None if options.labels is None else options.labels(settings)
    return _Wanted(settings, plan(settings), labels)


async def _read_again(reload: Callable[[], NerveSettings], options: Options, emit: Emit) -> _Wanted | None:
    try:
        fresh = _wanted(await asyncio.to_thread(reload), options)
    except ConfigurationError as error:
        faults = "\n  ".join(map(str, error.problems))
        emit(Warn(f"the configuration was not reloaded, the old one stays: {faults}"))
        return None
    emit(Reconfigured())
    return fresh
