"""The synapse daemon: follows registrations and keeps HAProxy equal to them, until SIGTERM."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dockstack.admin.report import Report
from dockstack.admin.server import serve
from dockstack.errors import ConfigurationError, DockStackError, Problem
from dockstack.events import Emit, Warn
from dockstack.model import Entry
from dockstack.registry.pool import Pool
from dockstack.runtime.latest import Latest
from dockstack.runtime.process import socket_in, terminated
from dockstack.settings.synapse import HaproxySettings, SynapseSettings
from dockstack.synapse import snapshot
from dockstack.synapse.haproxy import binary
from dockstack.synapse.haproxy.apply import Applier
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.haproxy.drafts import Drafts
from dockstack.synapse.haproxy.engine import Engine, External, Managed
from dockstack.synapse.haproxy.file import File
from dockstack.synapse.haproxy.process import Place
from dockstack.synapse.haproxy.reload import Policy
from dockstack.synapse.names import Names
from dockstack.synapse.snapshot import Saved, SnapshotFile
from dockstack.synapse.world import World

SOCKET = "synapse.sock"
HAPROXY_SOCKET = "haproxy.sock"
MASTER_SOCKET = "haproxy-master.sock"
HAPROXY_FILE = "haproxy.cfg"

HARD_STOP_AFTER = "hard-stop-after 24h"
"""A retired worker may keep its connections for a day: 30 s would cut every long session at a reload."""

MOST_RELOADS = "mworker-max-reloads 10"
"""A worker that is older than so many reloads is ended: each costs its memory."""

_LONGEST_END = 3.0
"""Seconds that the writing of what is still unwritten may take at the end."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is not in the file. Times in seconds.

    `haproxy`: which HAProxy to run. `drain`: how long open connections have at the end. `startup_grace`: how long a
    start waits for the registries. `removal`: how long a server that left may keep its connections.
    """

    run_dir: Path
    state_dir: Path
    haproxy: Path | None = None
    drain: float = 0.5
    startup_grace: float = 5.0
    removal: float = 3600.0


async def run(settings: SynapseSettings, options: Options, emit: Emit) -> None:
    """The whole life of the daemon; returns after SIGTERM or SIGINT, when HAProxy has ended (if it is ours).

    Raises ConfigurationError before anything is started when the settings cannot be carried out, and DockStackError
    when something outside makes it impossible to go on. When it ends by an error HAProxy goes on, and the next start
    adopts it.
    """
    try:
        await _live(settings, options, emit)
    except BaseExceptionGroup as group:
        known, bugs = group.split(DockStackError)
        if known is None or bugs is not None:
            raise
        raise _first(known) from None


def _first(group: BaseExceptionGroup[DockStackError]) -> DockStackError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _live(settings: SynapseSettings, options: Options, emit: Emit) -> None:
    top = settings.haproxy
    if top is None:
        raise ConfigurationError(Problem("haproxy", "the section is missing: there is nothing to write to"))
    engine, policy, layout = await arrange(top, options, emit)
    for warning in layout.frame(settings.services).warnings:
        emit(Warn(warning))
    file = File(_config_file(top, options), marked=bool(policy.sockets), emit=emit)
    socket_path = socket_in(options.run_dir, SOCKET)
    marks = {name: snapshot.fingerprint(own) for name, own in settings.services.items()}
    keeper = SnapshotFile(options.state_dir / snapshot.FILE, marks, emit)
    saved = _saved(options.state_dir / snapshot.FILE, marks, emit)
    pictures: Latest[Picture] = Latest()
    async with terminated() as stop, Pool(emit) as pool:
        world = World(layout, settings, pool, emit)
        world.restore(saved)
        names = Names(emit)

        def remember(service: str, entry: Entry, ids: Mapping[str, int]) -> None:
            keeper.remember(service, entry, ids, world.parts(service))

        drafts = Drafts(names, {name: one.ids for name, one in saved.items()}, remember, emit)
        applier = Applier(policy, drafts, engine, file, emit)

        def health() -> Report:
            return Report(applier.serving or not applier.ready, _lines(applier, world, pool))

        def ready() -> Report:
            return Report(applier.ready and applier.serving, _lines(applier, world, pool))

        async with serve(socket_path, health, ready), asyncio.TaskGroup() as group:
            work = [
                group.create_task(applier.run(pictures)),
                group.create_task(names.run(applier.resolved)),
                group.create_task(keeper.run()),
                group.create_task(world.follow(pictures, options.startup_grace)),
            ]
            await stop.wait()
            for task in work:
                task.cancel()
            await asyncio.wait(work)
        await applier.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_END):
                await _last_words(keeper, emit)


async def _last_words(keeper: SnapshotFile, emit: Emit) -> None:
    try:
        await keeper.flush()
    except OSError as error:
        emit(Warn(f"the snapshot could not be written: {error.strerror}"))


async def arrange(top: HaproxySettings, options: Options, emit: Emit) -> tuple[Engine, Policy, Layout]:
    """Who runs HAProxy, what may be done, and how services become sections of its file."""
    check = top.check_command if top.do_checks else None
    config = _config_file(top, options)
    candidate = Path(top.candidate_config_file_path or f"{config}.tmp")
    engine: Engine
    additions: tuple[str, ...] = ()
    if top.reload_command is None and (top.do_reloads or top.do_socket):
        stats = socket_in(options.run_dir, HAPROXY_SOCKET)
        place = Place(config.absolute(), socket_in(options.run_dir, MASTER_SOCKET), stats)
        engine = Managed(await binary.find(options.haproxy), place, options.drain, check, emit)
        line = f"stats socket {_quoted(stats)} mode 600 level admin expose-fd listeners"
        additions = (line, HARD_STOP_AFTER, MOST_RELOADS)
        sockets: tuple[Path, ...] = (stats,)
    else:
        engine = External(top.reload_command, check)
        sockets = tuple(map(Path, top.socket_file_path)) if top.do_socket else ()
    policy = Policy(
        writes=top.do_writes,
        reloads=top.do_reloads,
        commands=top.do_socket,
        sockets=sockets,
        candidate=candidate,
        interval=top.restart_interval,
        jitter=top.restart_jitter,
        removal=options.removal,
    )
    return engine, policy, Layout(top, additions, socket.gethostname())


def _config_file(top: HaproxySettings, options: Options) -> Path:
    return Path(top.config_file_path or options.run_dir / HAPROXY_FILE)


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace(" ", "\\ ")


def _saved(path: Path, marks: Mapping[str, str], emit: Emit) -> Mapping[str, Saved]:
    """What was saved for services that still look for the same; an unreadable file is worth a warning and no more."""
    try:
        found = snapshot.load(path)
    except snapshot.SnapshotUnreadable as error:
        emit(Warn(f"the saved snapshot is not used: {error}"))
        return {}
    return {name: one for name, one in found.items() if one.fingerprint == marks.get(name)}


def _lines(applier: Applier, world: World, pool: Pool) -> tuple[str, ...]:
    states = [f"{where}: {state}" for where, state in pool.states().items()]
    counts = f"reloads: {applier.reloads}, repaired: {applier.repaired}"
    waiting = () if applier.ready else ("HAProxy does not have all that is wanted yet",)
    return (*waiting, *applier.trouble, *world.trouble, *world.choices, *states, counts)
