"""What deciding costs, without any I/O: place, plan and render of 10,000 servers, whole and after one change.

    python -m bench.pure

Two shapes: 1,000 services of 10 servers, which has the goal, and for comparison one service of 10,000: the work is in
proportion to the services that change, and this one changes whole. A change replaces one instance. Each figure is the
median, and the worst, of many calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.report import Goal, close, machine, percentile, rounded, table
from bench.stage import arguments
from bench.stage import haproxy as chosen
from bench.synapse import DEFAULTS, service
from dockstack.model import Entry, Instance
from dockstack.settings.synapse import SynapseSettings
from dockstack.synapse.haproxy.document import Frame, draft, frame
from dockstack.synapse.haproxy.effects import after, loaded
from dockstack.synapse.haproxy.model import Document, Running, capabilities
from dockstack.synapse.haproxy.plan import plan
from dockstack.synapse.haproxy.render import render

SHAPES = {"1,000 of 10": (1000, 10), "1 of 10,000": (1, 10_000)}
VERSION = (2, 8)
FEW, MANY = 7, 201
ENOUGH = 2.0
"""Seconds after which a figure has enough calls, if they are FEW at least."""


@dataclass(frozen=True, slots=True)
class World:
    """A shape: its frame, what is wanted, and the same after a change in one service, named `changed`."""

    frame: Frame
    wanted: Document
    later: Document
    changed: str
    entry: Entry


def timed(call: Callable[[], object], times: int) -> list[float]:
    """Seconds of each call."""
    found: list[float] = []
    while len(found) < FEW or (len(found) < times and sum(found) < ENOUGH):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return found


def instances(count: int) -> Entry:
    """As a registry gives them."""
    return Entry(tuple(Instance(f"10.0.{at // 250}.{at % 250}", 8000, f"i{at}", at + 1) for at in range(count)))


def world(services: int, each: int) -> World:
    """The shape, as settings and a registry would make it."""
    names = [f"s{number:04}" for number in range(services)]
    own = {name: service("127.0.0.1:2181", f"/{name}", 10000 + at) for at, name in enumerate(names)}
    top = {"global": [], "defaults": list(DEFAULTS), "config_file_path": "/h.cfg", "socket_file_path": "/h.sock"}
    settings = SynapseSettings.model_validate({"services": own, "haproxy": top})
    assert settings.haproxy is not None
    skeleton = frame(settings.haproxy, settings.services, (), "host")
    entry = instances(each)
    wanted = skeleton.empty.with_stanzas(*(draft(skeleton, name, entry, {}, {}).stanza for name in names))
    changed = names[services // 2]
    moved = Entry((*entry.instances[:-1], Instance("10.9.9.9", 8000, "new", each + 1)))
    later = wanted.with_stanzas(draft(skeleton, changed, moved, {}, _ids(wanted, changed)).stanza)
    return World(skeleton, wanted, later, changed, moved)


def _ids(document: Document, service: str) -> dict[str, int]:
    return {one.name: one.id for one in document.stanzas[service].backend.servers if one.id is not None}


def measure(one: World) -> dict[str, list[float]]:
    """Seconds by what was done."""
    can = capabilities(VERSION)
    full, empty = loaded(one.wanted, can), loaded(one.frame.empty, can)
    done = render(one.wanted)
    ids = _ids(one.wanted, one.changed)
    few = plan(full, one.later, (one.changed,))
    assert len(few.steps) == 2, few
    assert not few.reload_reasons, few
    assert not plan(full, one.wanted)
    return {
        "place, one change": timed(lambda: draft(one.frame, one.changed, one.entry, {}, ids), MANY),
        "plan, whole, from nothing": timed(lambda: plan(empty, one.wanted), FEW),
        "plan, whole, nothing to do": timed(lambda: plan(full, one.wanted), FEW),
        "plan, one change": timed(lambda: plan(full, one.later, (one.changed,)), MANY),
        "the model after its steps": timed(lambda: _after(full, few.steps), MANY),
        "render, whole": timed(lambda: render(one.wanted).text, FEW),
        "render, one change": timed(lambda: render(one.later, done).text, MANY),
    }


def _after(running: Running, steps: tuple[object, ...]) -> Running:
    return after(running, steps)  # type: ignore[arg-type]


def run(binary: Path) -> tuple[Goal, ...]:
    """Measures, prints and writes; returns how the figures stand to the goals. HAProxy is only named."""
    about = machine(binary)
    found = {shape: measure(world(*size)) for shape, size in SHAPES.items()}
    head = ("milliseconds", *(f"{shape}: {name}" for shape in SHAPES for name in ("p50", "max")))
    rows = [
        (what, *(rounded(percentile(found[shape][what], share) * 1000) for shape in SHAPES for share in (0.5, 1.0)))
        for what in next(iter(found.values()))
    ]
    print(table(head, rows))
    shape = next(iter(SHAPES))
    planned = percentile(found[shape]["plan, one change"], 0.5) * 1000
    goals = [Goal.at_most(f"{shape}: plan, one change: p50", 1, planned, " ms")]
    return close("pure", {"seconds": found, "machine": about}, goals)


def main() -> None:
    """One run."""
    run(chosen(arguments(__doc__).haproxy))


if __name__ == "__main__":
    main()
