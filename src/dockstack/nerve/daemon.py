"""The nerve daemon: checks services and keeps the healthy ones registered, until SIGTERM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dockstack.admin.report import Report, together
from dockstack.admin.server import serve
from dockstack.docker import engine
from dockstack.docker.containers import Picture
from dockstack.errors import ConfigurationError
from dockstack.events import Emit, Reconfigured, Warn, fan_out
from dockstack.nerve import heartbeat
from dockstack.nerve.labelled import Terms
from dockstack.nerve.metrics import metrics
from dockstack.nerve.placing import Placer
from dockstack.nerve.provider import Provider
from dockstack.nerve.roster import Roster
from dockstack.nerve.service import Look, Service, plan
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
    again, the file that they are in, where the Docker engine is that knows of containers (None: where it is usually),
    and what counts for the services of labels (None: labels do not count)."""

    run_dir: Path
    state_dir: Path
    drain: float = 0.0
    reload: Callable[[], NerveSettings] | None = None
    config: Path | None = None
    engine: str | None = None
    labels: Callable[[NerveSettings], Terms] | None = None


async def run(settings: NerveSettings, options: Options, emit: Emit) -> None:
    """The whole life of the daemon; returns after SIGTERM or SIGINT, when every service is withdrawn.

    SIGHUP, or a change of their files, reads the settings again; `statsd` is that of the start. Raises
    ConfigurationError before anything is started when a service cannot be run as its settings are, or the Unix socket's
    path is too long.
    """
    pictures: Latest[Picture] = Latest()
    read = _planned(settings, _terms(settings, options), pictures.peek)
    socket = socket_in(options.run_dir, SOCKET)
    async with sending(settings.statsd, metrics) as count:
        tell = fan_out(emit, count)
        with living(tell):
            await _live(read, pictures, socket, options, tell)


@dataclass(frozen=True, slots=True)
class _Read:
    """What one reading of the configuration gave."""

    settings: NerveSettings
    services: tuple[Service, ...]
    terms: Terms | None


def _planned(settings: NerveSettings, terms: Terms | None, look: Look) -> _Read:
    """Raises ConfigurationError."""
    return _Read(settings, plan(settings, look), terms)


def _terms(settings: NerveSettings, options: Options) -> Terms | None:
    return None if options.labels is None else options.labels(settings)


async def _live(read: _Read, pictures: Latest[Picture], socket: Path, options: Options, emit: Emit) -> None:
    hangup, statsd = asyncio.Event(), read.settings.statsd
    async with terminated(hangup.set) as stop, Pool(emit) as pool:
        async with asyncio.TaskGroup() as group:
            own = engine.own_container()
            roster = Roster(group, pool, emit)
            provider = Provider(Roster(group, pool, emit), pictures.peek, own, emit)
            placer = Placer(roster, pictures, own, emit, lambda others: provider.see(others, read.terms))
            if read.terms is not None:
                placer.need_engine()
            placer.change(read.settings, read.services)

            def health() -> Report:
                report, states = together(roster.health(), provider.health()), {**pool.states(), **placer.states()}
                return Report(report.ok, (*report.lines, *(f"{at}: {state}" for at, state in states.items())))

            def ready() -> Report:
                return roster.ready() if read.terms is None else together(roster.ready(), provider.ready())

            async with serve(socket, health, ready), servants() as beside:
                beside.create_task(heartbeat.beat(lambda: read.settings.heartbeat_path, lambda: health().ok, emit))
                beside.create_task(placer.follow(options.engine or engine.USUAL_HOST))
                if options.reload is not None:
                    sources = Sources(options.config, read.settings.service_conf_dir, options.reload)
                    beside.create_task(tell_changes(sources, hangup, emit))
                while not await _stopped(stop, hangup):
                    hangup.clear()
                    if options.reload is not None:
                        fresh = await _read_again(sources.read, options, pictures.peek, provider, emit)
                        if fresh is not None:
                            if fresh.settings.statsd != statsd:
                                emit(Warn("only a restart of nerve changes statsd"))
                            read = fresh
                            placer.change(read.settings, read.services)
                roster.end()
                provider.end()
        await asyncio.sleep(options.drain)


async def _stopped(stop: asyncio.Event, hangup: asyncio.Event) -> bool:
    waiting = {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(hangup.wait())}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return stop.is_set()


async def _read_again(
    reload: Callable[[], NerveSettings], options: Options, look: Look, provider: Provider, emit: Emit
) -> _Read | None:
    try:
        settings = await asyncio.to_thread(reload)
        fresh = _planned(settings, await asyncio.to_thread(_terms, settings, options), look)
        if fresh.terms is not None and (problems := provider.faults(fresh.terms)):
            raise ConfigurationError(*problems)
    except ConfigurationError as error:
        faults = "\n  ".join(map(str, error.problems))
        emit(Warn(f"the configuration was not reloaded, the old one stays: {faults}"))
        return None
    emit(Reconfigured())
    return fresh
