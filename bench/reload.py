"""50 reloads while clients ask, each request on a new connection.

    python -m bench.reload [--rounds 50] [--haproxy FILE]

Each reload is forced by what an operator can do at any time: another `timeout server` for the service, written to the
data of its parent znode (SmartStack's configuration in the registry), which no command can change. It counts from the
write until another worker takes connections. Each HAProxy that is here has its turn.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from bench import haproxy
from bench.load import Counts, load
from bench.nodes import instance, zookeeper
from bench.origins import origins
from bench.report import SHARES, Goal, close, machine, milliseconds, table
from bench.stage import arguments, haproxies, say, stage
from bench.synapse import Synapse, service, synapse
from tests.servers.ports import free_port
from tests.waiting import wait_until

ROUNDS = 50
BACKEND = "web"
PATH = "/bench/reload"
CLIENTS = 12
PAUSE = 0.1
LIMIT = 15.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One HAProxy's turn: seconds of each reload, and what the clients saw."""

    version: str
    seconds: list[float]
    reloads: int
    counts: Counts


def until_replaced(ours: Synapse, retired: int) -> int:
    """The worker that takes connections after the one with this process id."""
    end = time.monotonic() + LIMIT
    while True:
        if haproxy.answers(ours.stats) and (pid := ours.worker) != retired:
            return pid
        if time.monotonic() > end:
            raise SystemExit(f"no other worker after {LIMIT:.0f} s\n{ours.daemon.output}")
        time.sleep(0.005)


def turn(scratch: Path, binary: Path, rounds: int) -> Turn:
    """All reloads of one HAProxy."""
    version = machine(binary)["haproxy"]
    scratch.mkdir()
    with zookeeper(scratch) as nodes, origins(scratch, binary, "one", "two") as ports:
        nodes.make([PATH])
        nodes.create((f"{PATH}/{name}", instance(name, "127.0.0.1", port)) for name, port in ports.items())
        own = service(nodes.hosts, PATH, free_port())
        section = own["haproxy"]
        seconds = []
        with synapse(scratch / "s", {BACKEND: own}, binary, restart_interval=0) as ours:
            ours.until_serving()
            wait_until(lambda: "HAProxy has all that is wanted" in ours.daemon.output, "the start")
            before, worker = ours.reloads, ours.worker
            with load(section["port"], CLIENTS, 0, 0.002) as counts:
                for number in range(rounds):
                    lines = [*section["listen"], f"timeout server {100 + number}s"]
                    write = nodes.set(PATH, json.dumps({"haproxy": {**section, "listen": lines}}).encode())
                    worker = until_replaced(ours, worker)
                    seconds.append(time.monotonic() - write.sent)
                    time.sleep(PAUSE)
            reloads = ours.reloads - before
    say(f"HAProxy {version}: {counts.requests:,} requests, {counts.failed} failed {counts.reasons or ''}")
    return Turn(version, seconds, reloads, counts)


def run(binaries: tuple[Path, ...], rounds: int = ROUNDS) -> tuple[Goal, ...]:
    """Measures, prints and writes; returns how the figures stand to the goals."""
    about = machine(binaries[0])
    with stage() as scratch:
        turns = [turn(scratch / str(number), binary, rounds) for number, binary in enumerate(binaries)]
    rows = [milliseconds(f"HAProxy {one.version}: written → another worker", one.seconds) for one in turns]
    print(table(("milliseconds", *SHARES), rows))
    print()
    rows = [
        (
            one.version,
            str(one.reloads),
            f"{one.counts.requests:,}",
            str(one.counts.failed),
            f"{one.counts.longest * 1000:.0f}",
        )
        for one in turns
    ]
    print(table(("HAProxy", "reloads", "connections", "failed", "longest, ms"), rows))
    found = []
    for one in turns:
        found += [
            Goal(f"{one.version}: reloads", f"{rounds}", str(one.reloads), one.reloads == rounds),
            Goal.at_most(f"{one.version}: failed connections", 0, one.counts.failed),
        ]
    figures = {
        "turns": [
            {"haproxy": one.version, "reloads": one.reloads, "seconds": one.seconds,
             "connections": one.counts.requests, "failed": one.counts.failed, "reasons": one.counts.reasons,
             "longest_request_seconds": one.counts.longest}
            for one in turns
        ],
        "machine": about,
    }  # fmt: skip
    return close("reload", figures, found)


def main() -> None:
    """One run."""
    given = arguments(__doc__, rounds=ROUNDS)
    run(tuple(haproxies(given.haproxy)), given.rounds)


if __name__ == "__main__":
    main()
