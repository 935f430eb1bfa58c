"""The nerve daemon: checks services and keeps the healthy ones registered, until SIGTERM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dockstack.admin.report import Report
from dockstack.admin.server import serve
from dockstack.errors import ConfigurationError
from dockstack.events import Emit, Reconfigured, Warn, fan_out
from dockstack.nerve import heartbeat
from dockstack.nerve.metrics import metrics
from dockstack.nerve.roster import Roster
from dockstack.nerve.service import Service, plan
from dockstack.registry.pool import Pool
from dockstack.runtime.changes import Sources, tell_changes
from dockstack.runtime.process import socket_in, terminated
from dockstack.runtime.scope import living, servants
from dockstack.settings.nerve import NerveSettings
from dockstack.statsd.sender import sending

SOCKET = "nerve.sock"


@dataclass(frozen=True, slots=True)
class Options:
    """What is not in the file: directories, seconds between the withdrawal and the end, how to read the settings
    again, and the file that they are in."""

    run_dir: Path
    state_dir: Path
    drain: float = 0.0
    reload: Callable[[], NerveSettings] | None = None
    config: Path | None = None


async def run(settings: NerveSettings, options: Options, emit: Emit) -> None:
    """The whole life of the daemon; returns after SIGTERM or SIGINT, when every service is withdrawn.

    SIGHUP, or a change of their files, reads the settings again; `statsd` is that of the start. Raises
    ConfigurationError before anything is started when a service cannot be run as its settings are, or the Unix socket's
    path is too long.
    """
    services = plan(settings)
    socket = socket_in(options.run_dir, SOCKET)
    async with sending(settings.statsd, metrics) as count:
        tell = fan_out(emit, count)
        with living(tell):
            await _live(settings, services, socket, options, tell)


async def _live(
    settings: NerveSettings, services: tuple[Service, ...], socket: Path, options: Options, emit: Emit
) -> None:
    hangup = asyncio.Event()
    async with terminated(hangup.set) as stop, Pool(emit) as pool:
        async with asyncio.TaskGroup() as group:
            roster = Roster(group, pool.get, emit)
            roster.change(services)

            def health() -> Report:
                report = roster.health()
                return Report(report.ok, (*report.lines, *(f"{at}: {state}" for at, state in pool.states().items())))

            async with serve(socket, health, roster.ready), servants() as beside:
                beside.create_task(heartbeat.beat(lambda: settings.heartbeat_path, lambda: roster.health().ok, emit))
                if options.reload is not None:
                    sources = Sources(options.config, settings.service_conf_dir, options.reload)
                    beside.create_task(tell_changes(sources.files, hangup, emit))
                while not await _stopped(stop, hangup):
                    hangup.clear()
                    if options.reload is not None and (fresh := await _read_again(sources.read, emit)) is not None:
                        settings, services = fresh
                        roster.change(services)
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


async def _read_again(
    reload: Callable[[], NerveSettings], emit: Emit
) -> tuple[NerveSettings, tuple[Service, ...]] | None:
    try:
        fresh = await asyncio.to_thread(reload)
        services = plan(fresh)
    except ConfigurationError as error:
        faults = "\n  ".join(map(str, error.problems))
        emit(Warn(f"the configuration was not reloaded, the old one stays: {faults}"))
        return None
    emit(Reconfigured())
    return fresh, services
