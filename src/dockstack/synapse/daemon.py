"""The synapse daemon: follows registrations and keeps HAProxy equal to them, until SIGTERM."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dockstack import plugins
from dockstack.admin.report import Report
from dockstack.admin.server import serve
from dockstack.errors import ConfigurationError, DockStackError, Problem
from dockstack.events import Emit, Warn, fan_out
from dockstack.model import Catalog, Entry
from dockstack.registry.pool import Pool
from dockstack.runtime.changes import Sources, tell_changes
from dockstack.runtime.latest import Latest
from dockstack.runtime.process import socket_in, terminated
from dockstack.runtime.scope import living
from dockstack.settings.synapse import HaproxySettings, SynapseService, SynapseSettings
from dockstack.statsd.sender import sending
from dockstack.synapse import guests, snapshot
from dockstack.synapse.files import manifest
from dockstack.synapse.files.output import Files
from dockstack.synapse.haproxy import binary
from dockstack.synapse.haproxy.apply import Applier
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.haproxy.drafts import Drafts
from dockstack.synapse.haproxy.engine import Engine, External, Managed
from dockstack.synapse.haproxy.file import File
from dockstack.synapse.haproxy.past import merged
from dockstack.synapse.haproxy.process import Place
from dockstack.synapse.haproxy.reload import Policy
from dockstack.synapse.haproxy.statefile import StateFile
from dockstack.synapse.metrics import metrics
from dockstack.synapse.names import Names
from dockstack.synapse.output import Output
from dockstack.synapse.reconfigure import Reconfigured
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


_NO_HAPROXY = HaproxySettings.model_validate(
    {"global": (), "defaults": (), "do_writes": False, "do_reloads": False, "do_socket": False}
)
"""What stands for the `haproxy` section where there is none: nothing is done."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is not in the file. Times in seconds.

    `haproxy`: which HAProxy to run. `drain`: how long open connections have at the end. `startup_grace`: how long a
    start waits for the registries. `removal`: how long a server that left may keep its connections; 0: not at all.
    `reload`: how the settings are read again, `config`: the file that they are in.
    """

    run_dir: Path
    state_dir: Path
    haproxy: Path | None = None
    drain: float = 0.5
    startup_grace: float = 5.0
    removal: float = 3600.0
    reload: Callable[[], SynapseSettings] | None = None
    config: Path | None = None


async def run(settings: SynapseSettings, options: Options, emit: Emit) -> None:
    """The whole life of the daemon; returns after SIGTERM or SIGINT, when HAProxy has ended (if it is ours).

    SIGHUP, or a change of their files, reads the settings again. Raises ConfigurationError before anything is started
    when the settings cannot be carried out, and DockStackError when something outside makes it impossible to go on.
    When it ends by an error HAProxy goes on, and the next start adopts it.
    """
    try:
        async with sending(settings.statsd, metrics) as count:
            tell = fan_out(emit, count)
            with living(tell):
                await _live(settings, options, tell)
    except BaseExceptionGroup as group:
        known, bugs = group.split(DockStackError)
        if known is None or bugs is not None:
            raise
        raise _first(known) from None


def _first(group: BaseExceptionGroup[DockStackError]) -> DockStackError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


@dataclass(frozen=True, slots=True)
class Part:
    """An output, with what must run beside it, what is to be written at the end, its line of figures, what is wrong
    with what runs beside it, and whether its first work has failed until now."""

    output: Output
    work: tuple[Coroutine[Any, Any, None], ...] = ()
    unwritten: tuple[Callable[[], Awaitable[None]], ...] = ()
    figures: Callable[[], tuple[str, ...]] = tuple
    trouble: Callable[[], tuple[str, ...]] = tuple
    failing: Callable[[], bool] = bool

    @property
    def well(self) -> bool:
        """Whether it does its work, or is still about to begin."""
        return self.output.serving or not (self.output.ready or self.failing())


async def _live(settings: SynapseSettings, options: Options, emit: Emit) -> None:
    top = settings.haproxy
    engine, policy, layout = await arrange(top or _NO_HAPROXY, options, emit)
    for warning in layout.frame(settings.services).warnings if top is not None else ():
        emit(Warn(warning))
    theirs = _of_plugins(settings, options, emit)
    directory = None if settings.file_output is None else _made(Path(settings.file_output.output_directory))
    socket_path = socket_in(options.run_dir, SOCKET)
    marks = snapshot.fingerprints(settings)
    keeper = SnapshotFile(options.state_dir / snapshot.FILE, marks, emit)
    saved = saved_of(options.state_dir / snapshot.FILE, marks, emit)
    pictures: Latest[Picture] = Latest()
    hangup = asyncio.Event()
    async with terminated(hangup.set) as stop, Pool(emit) as pool:
        world = World(layout, settings, pool, emit)
        world.restore(saved)

        def remember(service: str, entry: Entry, ids: Mapping[str, int]) -> None:
            keeper.remember(service, entry, ids, world.parts(service))

        def remember_alone(service: str, own: SynapseService, entry: Entry) -> None:
            if own.haproxy.disabled:
                remember(service, entry, {})

        parts: list[Part] = []
        if top is not None:
            state = state_of(top, emit)
            ids = {name: one.ids for name, one in saved.items()}
            if state is not None:
                world.stand_in(state.newest())
                ids = {name: merged(ids.get(name, {}), state.past.ids(name)) for name in settings.services}
            names = Names(emit)
            file = File(config_file(top, options), marked=bool(policy.sockets), emit=emit)
            applier = Applier(policy, Drafts(names, ids, remember, emit, state), engine, file, emit)
            parts.append(_haproxy(applier, names, state))
        if directory is not None:
            parts.append(Part(Files(directory, options.state_dir / manifest.FILE, remember_alone, emit)))
        if not parts:
            theirs[0] = replace(theirs[0], work=(_remembered(pictures, remember),))
        parts += theirs

        reports = _reports(parts, keeper, world, pool)
        async with serve(socket_path, *reports), asyncio.TaskGroup() as group:
            work = [
                *(one.output.run(pictures) for one in parts),
                *(each for one in parts for each in one.work),
                keeper.run(),
                world.ping(),
                world.follow(pictures, options.startup_grace),
            ]
            if options.reload is not None:
                sources = Sources(options.config, settings.service_conf_dir, options.reload)
                again = Reconfigured(settings, sources.read, lambda top: layout_of(top, options), world, keeper, emit)
                work += [
                    tell_changes(sources, hangup, emit),
                    again.run(hangup, pictures, options.startup_grace),
                ]
            await _until(stop, group, work)
            world.tell_end()
        for part in parts:
            await part.output.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_END):
                await _last_words((keeper.flush, *(each for one in parts for each in one.unwritten)), emit)


def _reports(
    parts: Sequence[Part], keeper: SnapshotFile, world: World, pool: Pool
) -> tuple[Callable[[], Report], Callable[[], Report]]:
    """What tells whether all is well, and whether all that is wanted is served."""

    def lines() -> tuple[str, ...]:
        trouble = (line for one in parts for line in (*one.output.trouble, *one.trouble()))
        states = (f"{where}: {state}" for where, state in pool.states().items())
        figures = (line for one in parts for line in one.figures())
        degraded = (*trouble, *keeper.trouble, *world.trouble)
        return (*(f"degraded: {line}" for line in degraded), *world.choices, *states, *figures)

    def health() -> Report:
        return Report(all(one.well for one in parts), lines())

    def ready() -> Report:
        return Report(all(one.output.ready and one.output.serving for one in parts), lines())

    return health, ready


def _of_plugins(settings: SynapseSettings, options: Options, emit: Emit) -> list[Part]:
    """The outputs of somebody else's. Raises ConfigurationError where one cannot be built."""
    return [
        Part(guests.output(plugins.load("outputs", name, name), name, section, options.state_dir, emit))
        for name, section in settings.sections.items()
    ]


async def _remembered(pictures: Latest[Picture], remember: Callable[[str, Entry, Mapping[str, int]], None]) -> None:
    """Has each entry saved, for ever, where no output of ours does."""
    version, before = 0, Catalog()
    while True:
        version, picture = await pictures.after(version)
        for name in picture.catalog.changed_since(before):
            if name in picture.catalog.entries:
                remember(name, picture.catalog.entries[name], {})
        before = picture.catalog


async def _until(stop: asyncio.Event, group: asyncio.TaskGroup, work: Iterable[Coroutine[Any, Any, None]]) -> None:
    tasks = [group.create_task(one) for one in work]
    await stop.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _haproxy(applier: Applier, names: Names, state: StateFile | None) -> Part:
    def figures() -> tuple[str, ...]:
        counts = f"reloads: {applier.reloads}, repaired: {applier.repaired}"
        return (counts,) if applier.ready else ("HAProxy does not have all that is wanted yet", counts)

    if state is None:
        return Part(applier, (names.run(applier.resolved),), figures=figures, failing=lambda: applier.failing)
    work = (names.run(applier.resolved), state.run(applier.aged))
    return Part(applier, work, (state.flush,), figures, lambda: state.trouble, lambda: applier.failing)


def state_of(top: HaproxySettings, emit: Emit) -> StateFile | None:
    """SmartStack's state file as it is now; None: it is not kept. Blocks."""
    if top.state_file_path is None:
        return None
    state = StateFile(Path(top.state_file_path), top.state_file_ttl, emit)
    state.load()
    return state


def _made(directory: Path) -> Path:
    """The directory, which is made where it is missing. Raises ConfigurationError where that cannot be done."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"{directory.absolute()} cannot be made: {error.strerror}"
        raise ConfigurationError(Problem("file_output.output_directory", what)) from None
    return directory


async def _last_words(unwritten: Iterable[Callable[[], Awaitable[None]]], emit: Emit) -> None:
    for flush in unwritten:
        try:
            await flush()
        except OSError as error:
            emit(Warn(f"the last state could not be written: {error}"))


async def arrange(top: HaproxySettings, options: Options, emit: Emit) -> tuple[Engine, Policy, Layout]:
    """Who runs HAProxy, what may be done, and how services become sections of its file."""
    check = top.check_command if top.do_checks else None
    config = config_file(top, options)
    candidate = Path(top.candidate_config_file_path or f"{config}.tmp")
    sockets = sockets_of(top, options)
    engine: Engine
    if is_managed(top):
        place = Place(config.absolute(), socket_in(options.run_dir, MASTER_SOCKET), sockets[0])
        engine = Managed(await binary.find(options.haproxy), place, options.drain, check, emit)
    else:
        engine = External(top.reload_command, check)
    policy = Policy(
        writes=top.do_writes,
        reloads=top.do_reloads,
        commands=top.do_socket,
        sockets=sockets,
        candidate=candidate,
        interval=top.restart_interval,
        jitter=top.restart_jitter,
        removal=options.removal,
        guarded=check is not None and not top.do_reloads,
    )
    return engine, policy, layout_of(top, options)


def is_managed(top: HaproxySettings) -> bool:
    """Whether HAProxy is started and ended by us."""
    return top.reload_command is None and (top.do_reloads or top.do_socket)


def sockets_of(top: HaproxySettings, options: Options) -> tuple[Path, ...]:
    """The Runtime API's sockets. Raises ConfigurationError where our own would have too long a path."""
    if is_managed(top):
        return (socket_in(options.run_dir, HAPROXY_SOCKET),)
    return tuple(map(Path, top.socket_file_path)) if top.do_socket else ()


def layout_of(top: HaproxySettings | None, options: Options) -> Layout:
    """How services become sections of the file; None: HAProxy is no output, and they become none."""
    if top is None:
        return Layout(_NO_HAPROXY, (), socket.gethostname())
    additions: tuple[str, ...] = ()
    if is_managed(top):
        (stats,) = sockets_of(top, options)
        line = f"stats socket {_quoted(stats)} mode 600 level admin expose-fd listeners"
        additions = (line, HARD_STOP_AFTER, MOST_RELOADS)
    return Layout(top, additions, socket.gethostname())


def config_file(top: HaproxySettings, options: Options) -> Path:
    """The file that HAProxy loads."""
    return Path(top.config_file_path or options.run_dir / HAPROXY_FILE)


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace(" ", "\\ ")


def saved_of(path: Path, marks: Mapping[str, str], emit: Emit) -> Mapping[str, Saved]:
    """What was saved for services that still look for the same; an unreadable file is worth a warning and no more."""
    try:
        found = snapshot.load(path)
    except snapshot.SnapshotUnreadable as error:
        emit(Warn(f"the saved snapshot is not used: {error}"))
        return {}
    return {name: one for name, one in found.items() if one.fingerprint == marks.get(name)}
