"""1,000 servers come and 1,000 go while clients ask through the proxy, on new and on kept connections.

    python -m bench.churn [--rounds 1000] [--haproxy FILE]

Every server is a new one, with a name of its own; ten are in rotation at a time, beside two that stay. A server that
leaves goes on answering, as in a deploy: a failed request is a fault of the proxy's. Each HAProxy that is here has its
turn. Memory is that of synapse, and of HAProxy's worker, after a tenth of the changes, at their end, and ten seconds
later. Where HAProxy cannot delete servers (2.6) those that have left take memory until its next reload.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bench import usage
from bench.load import Counts, load
from bench.nodes import Nodes, instance, zookeeper
from bench.origins import origins
from bench.report import Goal, close, machine, table
from bench.stage import arguments, haproxies, say, stage
from bench.synapse import Synapse, service, synapse
from tests.servers.ports import free_port
from tests.waiting import wait_until

ROUNDS = 1000
BACKEND = "web"
PATH = "/bench/churn"
THERE = 10
PAUSE = 0.01
NEW, KEPT = 6, 6
SETTLE = 10.0
GROWTH = 5.0
"""Megabytes between a tenth of the changes and the end that still count as steady."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One HAProxy's turn. Memory in megabytes: at a tenth, at the end, after the rest."""

    version: str
    seconds: float
    counts: Counts
    reloads: int
    synapse: tuple[float, float, float]
    haproxy: tuple[float, float, float]


def _memory(ours: Synapse) -> tuple[float, float]:
    return usage.rss(ours.pid), usage.rss(ours.worker)


def churn(
    nodes: Nodes, ours: Synapse, front: int, port: int, rounds: int
) -> tuple[float, Counts, list[tuple[float, float]]]:
    """Seconds, counts of the clients, and memory at the three moments."""
    there: list[str] = []
    memory = []
    begun = time.monotonic()
    with load(front, NEW, KEPT) as counts:
        for number in range(rounds):
            name = f"churn-{number}"
            (write,) = nodes.create([(f"{PATH}/{name}", instance(name, "127.0.0.1", port))])
            there.append(write.node)
            time.sleep(PAUSE)
            if len(there) > THERE:
                nodes.delete([there.pop(0)])
                time.sleep(PAUSE)
            if number + 1 == rounds // 10:
                memory.append(_memory(ours))
        nodes.delete(there)
        took = time.monotonic() - begun
        memory.append(_memory(ours))
        time.sleep(SETTLE)
    memory.append(_memory(ours))
    return took, counts, memory


def turn(scratch: Path, binary: Path, rounds: int) -> Turn:
    """All of it with one HAProxy."""
    version = machine(binary)["haproxy"]
    scratch.mkdir()
    with zookeeper(scratch) as nodes, origins(scratch, binary, "old", "new") as ports:
        nodes.make([PATH])
        nodes.create((f"{PATH}/{name}", instance(name, "127.0.0.1", ports["old"])) for name in ("one", "two"))
        front = free_port()
        with synapse(scratch / "s", {BACKEND: service(nodes.hosts, PATH, front)}, binary) as ours:
            ours.until_serving()
            wait_until(lambda: "HAProxy has all that is wanted" in ours.daemon.output, "the start")
            before = ours.reloads
            took, counts, memory = churn(nodes, ours, front, ports["new"], rounds)
            reloads = ours.reloads - before
    ours_mb, theirs_mb = zip(*memory, strict=True)
    say(f"HAProxy {version}: {counts.requests:,} requests, {counts.failed} failed {counts.reasons or ''}")
    return Turn(version, took, counts, reloads, ours_mb, theirs_mb)


def run(binaries: tuple[Path, ...], rounds: int = ROUNDS) -> tuple[Goal, ...]:
    """Measures, prints and writes; returns how the figures stand to the goals."""
    about = machine(binaries[0])
    with stage() as scratch:
        turns = [turn(scratch / str(number), binary, rounds) for number, binary in enumerate(binaries)]
    rows = [
        (one.version, f"{2 * rounds:,} in {one.seconds:.0f} s", f"{one.counts.requests:,}", str(one.counts.failed),
         f"{one.counts.longest * 1000:.0f}", str(one.reloads), _way(one.synapse), _way(one.haproxy))
        for one in turns
    ]  # fmt: skip
    head = ("HAProxy", "changes", "requests", "failed", "longest, ms", "reloads", "synapse, MB", "HAProxy, MB")
    print(table(head, rows))
    found = []
    for one in turns:
        found += [
            Goal.at_most(f"{one.version}: failed requests", 0, one.counts.failed),
            Goal.at_most(f"{one.version}: reloads", 0, one.reloads),
            Goal.at_most(f"{one.version}: growth of synapse", GROWTH, one.synapse[2] - one.synapse[0], " MB"),
            Goal.at_most(f"{one.version}: growth of HAProxy", GROWTH, one.haproxy[2] - one.haproxy[0], " MB"),
        ]
    figures = {
        "changes": 2 * rounds,
        "turns": [
            {"haproxy": one.version, "seconds": one.seconds, "requests": one.counts.requests,
             "failed": one.counts.failed, "reasons": one.counts.reasons, "longest_request_seconds": one.counts.longest,
             "reloads": one.reloads, "synapse_mb": one.synapse, "haproxy_mb": one.haproxy}
            for one in turns
        ],
        "machine": about,
    }  # fmt: skip
    return close("churn", figures, found)


def _way(megabytes: tuple[float, ...]) -> str:
    return " → ".join(f"{one:.1f}" for one in megabytes)


def main() -> None:
    """One run."""
    given = arguments(__doc__, rounds=ROUNDS)
    run(tuple(haproxies(given.haproxy)), given.rounds)


if __name__ == "__main__":
    main()
