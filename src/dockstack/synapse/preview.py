"""What synapse would do now: the file, and the difference to the HAProxy that runs. It changes nothing there.

The registry is read as at a start, whereby a path that does not exist is made. What HAProxy refuses is left out as at a
start: it looks at a copy of the file.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dockstack.errors import ConfigurationError, HaproxyUnavailable, Problem
from dockstack.events import Emit, Warn
from dockstack.registry.pool import Pool
from dockstack.runtime.latest import Latest
from dockstack.runtime.scope import servants
from dockstack.settings.synapse import HaproxySettings, SynapseSettings
from dockstack.synapse import snapshot
from dockstack.synapse.daemon import (
    Options,
    arrange,
    config_file,
    is_managed,
    layout_of,
    saved_of,
    sockets_of,
    state_of,
)
from dockstack.synapse.haproxy import text
from dockstack.synapse.haproxy.check import Checked
from dockstack.synapse.haproxy.commands import commands, told
from dockstack.synapse.haproxy.document import Picture, static_names
from dockstack.synapse.haproxy.drafts import Drafts
from dockstack.synapse.haproxy.engine import Engine
from dockstack.synapse.haproxy.file import File
from dockstack.synapse.haproxy.link import Link, await_link, from_file, open_link
from dockstack.synapse.haproxy.model import Capabilities, Document, Plan
from dockstack.synapse.haproxy.past import merged
from dockstack.synapse.haproxy.plan import plan
from dockstack.synapse.haproxy.reload import Parts, Policy, Reloader
from dockstack.synapse.haproxy.render import render
from dockstack.synapse.names import LIMIT, Names
from dockstack.synapse.world import World

_ANSWER = 3.0
"""Seconds for a HAProxy to answer, or, in the middle of a reload, for its new worker to."""

_UNKNOWN = "whether HAProxy takes this file is not known"


@dataclass(frozen=True, slots=True)
class Difference:
    """One HAProxy: who answers on which socket, and what is to be done: a line for each step, and for each reason for
    a reload. `steps` is None where nobody answers, and `who` then says why.
    """

    who: str
    steps: tuple[str, ...] | None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """The file that would be written, whether HAProxy is ours to start, and what is to be done with each that runs.

    `on_disk` is whether the file holds this already, `refusal` why HAProxy does not take it, if it does not.
    """

    file: Path
    text: str
    on_disk: bool
    managed: bool
    differences: tuple[Difference, ...]
    refusal: str = ""


def lines(preview: Preview) -> Iterator[str]:
    """The preview as the lines of a file that HAProxy could load: what is to be done stands in comments at its end."""
    yield from preview.text.splitlines()
    yield ""
    state = "this is its content now" if preview.on_disk else "its content is another one now"
    yield f"# {preview.file}: {state}"
    if preview.refusal:
        yield f"# HAProxy refuses this file, and what runs would go on: {preview.refusal}"
    if not preview.differences:
        yield "# no socket is used: what runs is not known"
    for one in preview.differences:
        yield f"# {one.who}"
        if one.steps is None:
            yield "#   HAProxy would be started with this file" if preview.managed else "#   nothing can be done"
        elif not one.steps and not one.reasons:
            yield "#   nothing is to be done"
        else:
            yield from (f"#   {step}" for step in one.steps)
            yield from (f"#   a reload: {reason}" for reason in one.reasons)


async def preview(settings: SynapseSettings, options: Options, emit: Emit) -> Preview:
    """Reads registry, saved state, file and HAProxy once.

    Raises ConfigurationError when the settings cannot be carried out, or the HAProxy that was named cannot be run.
    """
    top = settings.haproxy
    if top is None:
        raise ConfigurationError(Problem("haproxy", "the section is missing: there is no HAProxy to plan for"))
    engine, layout = await _reader(top, options, emit), layout_of(top, options)
    for warning in layout.frame(settings.services).warnings:
        emit(Warn(warning))
    saved = saved_of(options.state_dir / snapshot.FILE, snapshot.fingerprints(settings), emit)
    state = state_of(top, emit)
    ids = {name: one.ids for name, one in saved.items()}
    if state is not None:
        ids = {name: merged(ids.get(name, {}), state.past.ids(name)) for name in settings.services}
    names, pictures = Names(emit), Latest[Picture]()
    drafts = Drafts(names, ids, lambda *_: None, emit, state)
    async with Pool(emit) as pool, servants() as tasks:
        world = World(layout, settings, pool, emit)
        world.restore(saved)
        if state is not None:
            world.stand_in(state.newest())
        tasks.create_task(world.follow(pictures, options.startup_grace))
        _, picture = await pictures.after(0)
        drafts.take(picture)
        await _resolve(names, drafts, tasks)
    return await _compared(top, options, drafts, engine, emit)


async def _resolve(names: Names, drafts: Drafts, tasks: asyncio.TaskGroup) -> None:
    """Has every host that is a name looked up once."""
    hosts = names.unknown
    if not hosts:
        return
    news = asyncio.Event()
    tasks.create_task(names.run(lambda _: news.set()))
    with suppress(TimeoutError):
        async with asyncio.timeout(2 * LIMIT):
            while names.unknown:
                await news.wait()
                news.clear()
    drafts.resolved(hosts)


async def _compared(
    top: HaproxySettings, options: Options, drafts: Drafts, engine: Engine | None, emit: Emit
) -> Preview:
    file, sockets = config_file(top, options), sockets_of(top, options)
    content = await asyncio.to_thread(_read, file)
    document = _document(content)
    links = [await _link(path, document) for path in sockets]
    for link in links:
        if isinstance(link, Link):
            drafts.learn(link.running)
    if document is not None and is_managed(top) and not any(isinstance(link, Link) for link in links):
        drafts.recall(document)
    refusal = "" if engine is None else await _sifted(engine, file, drafts, emit)
    found = tuple(_difference(link, drafts.wanted, not options.removal) for link in links)
    new = render(drafts.wanted, marked=bool(sockets)).text
    return Preview(file, new, new == content, is_managed(top), found, refusal)


async def _reader(top: HaproxySettings, options: Options, emit: Emit) -> Engine | None:
    """The HAProxy that is to look at the file, if it is ours to run; a command of the user's that checks is not run, as
    it may do anything. Raises ConfigurationError where the one that was named cannot be run.
    """
    if not is_managed(top) or (top.do_checks and top.check_command is not None):
        return None
    try:
        return (await arrange(top, options, emit))[0]
    except ConfigurationError as error:
        if options.haproxy is not None:
            raise
        emit(Warn(f"{_UNKNOWN}: {error}"))
        return None


async def _sifted(engine: Engine, file: Path, drafts: Drafts, emit: Emit) -> str:
    """Leaves out of what is wanted what HAProxy names as wrong; returns why it refuses the rest, "" if it does not."""
    try:
        with tempfile.TemporaryDirectory(prefix="dockstack-plan-") as directory:
            policy = Policy(True, True, True, (), Path(directory) / "haproxy.cfg", 0, 0)
            parts = Parts(policy, drafts, engine, File(file, marked=True, emit=emit), (), emit)
            checked = (await Reloader(parts).check(drafts.wanted)).checked
    except OSError as error:
        checked = Checked(False, (f"there is no room for a copy: {error}",), sure=False)
    if checked.accepted:
        return ""
    if not checked.sure:
        emit(Warn(f"{_UNKNOWN}: {' '.join(checked.lines)}"))
        return ""
    return " ".join(checked.alerts[:1])


def _difference(link: Link | HaproxyUnavailable, wanted: Document, cut: bool) -> Difference:
    if isinstance(link, HaproxyUnavailable):
        return Difference(str(link), None)
    link.close()
    version = ".".join(map(str, link.identity.version))
    who = f"{link.path}: HAProxy {version} answers, worker {link.identity.pid}"
    return _planned(who, plan(link.running, wanted, cut=cut), link.running.capabilities)


def _planned(who: str, what: Plan, capabilities: Capabilities) -> Difference:
    steps = []
    for step in what.steps:
        sent = "; ".join(one.line for one in commands(step, capabilities))
        steps.append(f"{told(step)} ({sent})")
    return Difference(who, tuple(steps), tuple(map(str, what.reload_reasons)))


async def _link(path: Path, document: Document | None) -> Link | HaproxyUnavailable:
    believe, static = from_file(document), static_names(document)
    try:
        link = await open_link(path, believe, static, _ANSWER)
        if not link.identity.stopping:
            return link
        link.close()
        return await await_link(path, believe, static, _ANSWER)
    except HaproxyUnavailable as error:
        return error


def _read(file: Path) -> str | None:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _document(content: str | None) -> Document | None:
    try:
        return None if content is None else text.parse(content)
    except ValueError:
        return None
