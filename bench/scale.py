"""1,000 services of 10 instances each: the start, the memory, and what one change among them costs.

    python -m bench.scale [--rounds 100] [--haproxy FILE]

The start counts from the call of the program to the whole configuration on disk and to the first answer of a server
that was discovered; nothing is left of an earlier run. A change is a znode of one service, chosen by chance, created or
deleted, and counts until a client sees it. Its cost is the processor time that synapse has used, all its threads: of
changes that come one by one, with all that is written behind each (the median, as now and then the read-back of all
servers falls in between), and of a dense series (the average, with all that falls in between).
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import floor, usage
from bench.nodes import Nodes, instance, zookeeper
from bench.origins import loopback, origins
from bench.probe import Probe, Unserved, answer
from bench.report import SHARES, Goal, close, machine, milliseconds, percentile, table
from bench.stage import arguments, say, stage
from bench.stage import haproxy as chosen
from bench.synapse import Synapse, service, synapse
from tests.servers.ports import free_ports

ROUNDS = 100
SERVICES, EACH = 1000, 10
ROOT = "/bench/scale"
FLOOR = "/bench/floor"
STARTS = 3
LIMIT = 60.0
SETTLE = 5.0
LONE, LONE_PAUSE = 25, 1.2
DENSE, DENSE_PAUSE = 1000, 0.02
RUBY = "9.2 s to the file, 9.5 s to the first answer, 99-146 MB, 1,800 ms and 700 ms of CPU for one change"


@dataclass(frozen=True, slots=True)
class Town:
    """The services: the port of each by name, and the port on which new servers answer."""

    nodes: Nodes
    fronts: Mapping[str, int]
    new: int

    def settings(self) -> dict[str, Any]:
        """As synapse's file has them."""
        return {
            name: service(self.nodes.hosts, f"{ROOT}/{name}", port, checked=False) for name, port in self.fronts.items()
        }

    def anyone(self) -> str:
        """The name of a service, by chance."""
        return random.choice(tuple(self.fronts))


@dataclass(frozen=True, slots=True)
class Started:
    """Seconds from the call of the program to the whole file and to the first answer; seconds of CPU until then."""

    written: float
    answered: float
    cpu: float


@dataclass(slots=True)
class Changes:
    """Seconds until each change was seen, seconds of CPU for one, and megabytes of synapse."""

    created: list[float] = field(default_factory=list)
    deleted: list[float] = field(default_factory=list)
    lone_cpu: list[float] = field(default_factory=list)
    bare_cpu: list[float] = field(default_factory=list)
    dense_cpu: float = 0.0
    fresh: float = 0.0
    used: float = 0.0
    peak: float = 0.0
    reloads: int = 0


class Toggle:
    """Creates a node in some service, or below `path`, and deletes it the next time."""

    def __init__(self, town: Town, path: str | None = None) -> None:
        self._town = town
        self._path = path
        self._there: list[str] = []
        self._count = 0

    def __call__(self) -> None:
        if self._there:
            self._town.nodes.delete([self._there.pop()])
            return
        self._count += 1
        name = f"y{self._count}"
        path = f"{self._path or f'{ROOT}/{self._town.anyone()}'}/{name}"
        (write,) = self._town.nodes.create([(path, instance(name, "127.0.0.1", self._town.new))])
        self._there.append(write.node)


def settle(nodes: Nodes, here: int, new: int) -> Town:
    """Makes all znodes; the ten servers of a service differ by address."""
    names = [f"s{number:04}" for number in range(SERVICES)]
    nodes.make(f"{ROOT}/{name}" for name in names)
    nodes.create(
        (f"{ROOT}/{name}/i{number}", instance(f"i{number}", loopback(number), here))
        for name in names
        for number in range(EACH)
    )
    say(f"{SERVICES * EACH:,} znodes are there")
    return Town(nodes, dict(zip(names, free_ports(SERVICES), strict=True)), new)


def watch_start(ours: Synapse, called: float, port: int) -> Started:
    """Returns when the whole file is there and a server has answered on the port."""
    written = answered = 0.0
    while not (written and answered):
        if not written and ours.config.exists():
            now = time.monotonic()
            if ours.config.read_bytes().count(b"\n\tserver ") == SERVICES * EACH:
                written = now - called
        try:
            if answer(port) == "here":
                answered = time.monotonic() - called
        except OSError:
            time.sleep(0.005)
        if ours.ended or time.monotonic() - called > LIMIT:
            raise Unserved(f"no whole start within {LIMIT:.0f} s\n{ours.daemon.output}")
    return Started(written, answered, usage.cpu(ours.pid))


def measure_changes(ours: Synapse, town: Town, rounds: int) -> Changes:
    """All changes, first those whose latency counts, then those whose cost counts."""
    time.sleep(SETTLE)
    found = Changes(fresh=usage.rss(ours.pid), reloads=-ours.reloads)
    for number in range(rounds):
        where, name = town.anyone(), f"x{number}"
        server, probe = f"{name}_127.0.0.1:{town.new}", Probe(town.fronts[where])
        write = town.nodes.create_soon(f"{ROOT}/{where}/{name}", instance(name, "127.0.0.1", town.new))
        found.created.append(probe.first(server, "new") - write.sent)
        time.sleep(random.uniform(0.05, 0.15))
        write = town.nodes.delete_soon(write.wait().node)
        found.deleted.append(probe.last(server, "new", write.sent) - write.sent)
        time.sleep(random.uniform(0.05, 0.15))
    say(f"{2 * rounds} changes were seen")
    toggle = Toggle(town)
    town.nodes.make([FLOOR])
    with floor.running(town.nodes.hosts, FLOOR, ours.stats, "nobody") as bare:
        sides = ((ours.pid, toggle, found.lone_cpu), (bare, Toggle(town, FLOOR), found.bare_cpu))
        for _ in range(LONE):
            before = [usage.cpu(pid) for pid, _, _ in sides]
            for _, change, _ in sides:
                change()
                time.sleep(LONE_PAUSE / len(sides))
            for (pid, _, spent), start in zip(sides, before, strict=True):
                spent.append(usage.cpu(pid) - start)
    spent_before, begun = usage.cpu(ours.pid), time.monotonic()
    for number in range(DENSE):
        toggle()
        time.sleep(max(0.0, begun + (number + 1) * DENSE_PAUSE - time.monotonic()))
    time.sleep(LONE_PAUSE)
    found.dense_cpu = (usage.cpu(ours.pid) - spent_before) / DENSE
    found.used, found.peak = usage.rss(ours.pid), usage.peak(ours.pid)
    found.reloads += ours.reloads
    return found


def run(binary: Path, rounds: int = ROUNDS) -> tuple[Goal, ...]:
    """Measures, prints and writes; returns how the figures stand to the goals."""
    about = machine(binary)
    starts: list[Started] = []
    changes = Changes()
    with (
        stage() as scratch,
        zookeeper(scratch) as nodes,
        origins(scratch, binary, "here", "new", hosts=EACH) as ports,
    ):
        town = settle(nodes, ports["here"], ports["new"])
        for number in range(STARTS):
            called = time.monotonic()
            with synapse(scratch / f"s{number}", town.settings(), binary) as ours:
                starts.append(watch_start(ours, called, tuple(town.fronts.values())[-1]))
                say(f"start {number + 1}: first answer after {starts[-1].answered:.2f} s")
                if number + 1 == STARTS:
                    changes = measure_changes(ours, town, rounds)
    return _tell(about, starts, changes)


def _tell(about: Mapping[str, str], starts: list[Started], changes: Changes) -> tuple[Goal, ...]:
    rows: list[tuple[str, ...]] = [
        (str(at), f"{one.written:.2f}", f"{one.answered:.2f}", f"{one.cpu:.2f}") for at, one in enumerate(starts, 1)
    ]
    print(table(("start, seconds", "whole file", "first answer", "CPU of synapse"), rows), end="\n\n")
    rows = [("RSS", f"{changes.fresh:.0f}", f"{changes.used:.0f}", f"{changes.peak:.0f}")]
    print(table(("megabytes of synapse", "after the start", "after all", "peak"), rows), end="\n\n")
    rows = [
        milliseconds("znode created → first answer", changes.created),
        milliseconds("znode deleted → last answer", changes.deleted),
    ]
    print(table(("one change, milliseconds", *SHARES), rows), end="\n\n")
    lone = percentile(changes.lone_cpu, 0.5)
    rows = [
        (f"{LONE_PAUSE} s apart, the median", str(LONE), f"{lone * 1000:.2f}"),
        (f"{LONE_PAUSE} s apart, the average", str(LONE), f"{sum(changes.lone_cpu) / LONE * 1000:.2f}"),
        (f"{DENSE_PAUSE * 1000:.0f} ms apart, the average", str(DENSE), f"{changes.dense_cpu * 1000:.2f}"),
    ]
    bare = percentile(changes.bare_cpu, 0.5)
    rows.append((f"a bare script, {LONE_PAUSE} s apart, the median", str(LONE), f"{bare * 1000:.2f}"))
    print(table(("CPU of synapse for one change", "changes", "ms"), rows))
    print(f"reloads: {changes.reloads}")
    print(f"for comparison, Ruby synapse (measured apart, on a machine of the same size): {RUBY}")
    middle = percentile([one.answered for one in starts], 0.5)
    found = [
        Goal.at_most("start → first answer, median", 2.5, middle, " s"),
        Goal.at_most("RSS of synapse after the start", 120, changes.fresh, " MB"),
        Goal.at_most("RSS of synapse after all changes", 120, changes.used, " MB"),
        Goal.at_most("one change, created → served: p50", 20, percentile(changes.created, 0.5) * 1000, " ms"),
        Goal.at_most("one change, deleted → gone: p50", 20, percentile(changes.deleted, 0.5) * 1000, " ms"),
        Goal.at_most(f"CPU for one change, {LONE_PAUSE} s apart", 5, lone * 1000, " ms"),
        Goal.at_most(f"CPU for one change, {DENSE_PAUSE * 1000:.0f} ms apart", 5, changes.dense_cpu * 1000, " ms"),
        Goal.at_most("reloads", 0, changes.reloads),
    ]
    figures = {
        "services": SERVICES, "instances_each": EACH,
        "starts_seconds": [{"written": one.written, "answered": one.answered, "cpu": one.cpu} for one in starts],
        "rss_mb": {"after_start": changes.fresh, "after_changes": changes.used, "peak": changes.peak},
        "created_to_first_seconds": changes.created, "deleted_to_last_seconds": changes.deleted,
        "cpu_seconds_per_change": {
            "one_by_one": changes.lone_cpu, "dense": changes.dense_cpu, "bare_script": changes.bare_cpu,
        },
        "reloads": changes.reloads, "machine": about,
    }  # fmt: skip
    return close("scale", figures, found)


def main() -> None:
    """One run."""
    given = arguments(__doc__, rounds=ROUNDS)
    run(chosen(given.haproxy), given.rounds)


if __name__ == "__main__":
    main()
