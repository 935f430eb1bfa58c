"""How long clients wait for a change: znode created → first answer through HAProxy, znode deleted → last answer.

    python -m bench.convergence [--rounds 200] [--haproxy FILE]

A real ZooKeeper, a real synapse and its HAProxy. Beside it, round by round in turn, the floor: a bare script (kazoo's
watch, one write to the socket, nothing else) drives a HAProxy of its own with the same file. Two servers stay, a third,
a new one each round, comes and goes.

The clock starts when the write to ZooKeeper is sent: its own time, in the last rows, is part of every figure.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import floor as bare
from bench import haproxy
from bench.nodes import Nodes, instance, zookeeper
from bench.origins import origins
from bench.probe import Probe
from bench.report import SHARES, Goal, close, machine, milliseconds, percentile, table
from bench.stage import arguments, say, stage
from bench.stage import haproxy as chosen
from bench.synapse import Synapse, service, synapse
from tests.servers.ports import free_ports
from tests.waiting import wait_until

ROUNDS = 200
BACKEND = "web"
STAYING = ("one", "two")
COMING = "three"


@dataclass(slots=True)
class Side:
    """One of the two that are compared: what it watches, where it serves, and its figures, in seconds."""

    path: str
    probe: Probe
    served: list[float] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)
    confirmed: list[float] = field(default_factory=list)

    def round(self, nodes: Nodes, number: int, port: int) -> None:
        """The third server comes and goes."""
        name = f"{COMING}-{number}"
        server = f"{name}_127.0.0.1:{port}"
        write = nodes.create_soon(f"{self.path}/{name}", instance(name, "127.0.0.1", port))
        self.served.append(self.probe.first(server, COMING) - write.sent)
        self._confirm(write.wait().acknowledged - write.sent)
        write = nodes.delete_soon(write.node)
        self.gone.append(self.probe.last(server, COMING, write.sent) - write.sent)
        self._confirm(write.wait().acknowledged - write.sent)

    def _confirm(self, seconds: float) -> None:
        self.confirmed.append(seconds)
        time.sleep(random.uniform(0.01, 0.05))


@contextmanager
def floor(binary: Path, hosts: str, path: str, like: Synapse, port: int) -> Iterator[Path]:
    """The bare script and its HAProxy, whose file is that of `like` with another `port`; yields its stats socket."""
    config, stats = like.directory / "floor.cfg", like.directory / "floor.sock"
    text = like.config.read_text().replace(str(like.stats), str(stats))
    config.write_text(re.sub(r"^\tbind .*", f"\tbind 127.0.0.1:{port}", text, flags=re.MULTILINE))
    with haproxy.running(binary, config, stats), bare.running(hosts, path, stats, BACKEND):
        yield stats


def run(binary: Path, rounds: int = ROUNDS) -> tuple[Goal, ...]:
    """Measures, prints and writes; returns how the figures stand to the goals."""
    about = machine(binary)
    with stage() as scratch, zookeeper(scratch) as nodes, origins(scratch, binary, *STAYING, COMING) as ports:
        paths = {"synapse": "/bench/synapse", "floor": "/bench/floor"}
        for path in paths.values():
            nodes.make([path])
            nodes.create((f"{path}/{name}", instance(name, "127.0.0.1", ports[name])) for name in STAYING)
        fronts = free_ports(2)
        services = {BACKEND: service(nodes.hosts, paths["synapse"], fronts[0])}
        with synapse(scratch / "s", services, binary) as ours:
            ours.until_serving()
            wait_until(lambda: len(haproxy.servers(ours.stats, BACKEND)) == len(STAYING), "both servers")
            with floor(binary, nodes.hosts, paths["floor"], ours, fronts[1]) as stats:
                sides = {name: Side(paths[name], Probe(port)) for name, port in zip(paths, fronts, strict=True)}
                before = (ours.reloads, ours.worker, haproxy.worker(stats))
                for number in range(rounds):
                    for side in sides.values():
                        side.round(nodes, number, ports[COMING])
                    if (number + 1) % 50 == 0:
                        say(f"{number + 1} of {rounds} rounds")
                after = (ours.reloads, ours.worker, haproxy.worker(stats))
    if after[1:] != before[1:]:
        raise SystemExit("a HAProxy has another worker than at the start")
    return _tell(about, sides["synapse"], sides["floor"], after[0] - before[0])


def _tell(about: object, ours: Side, bare: Side, reloads: int) -> tuple[Goal, ...]:
    rows = [
        milliseconds("znode created → first answer: synapse", ours.served),
        milliseconds("znode created → first answer: bare script", bare.served),
        milliseconds("znode deleted → last answer: synapse", ours.gone),
        milliseconds("znode deleted → last answer: bare script", bare.gone),
        milliseconds("of it ZooKeeper: write → confirmation", ours.confirmed + bare.confirmed),
        milliseconds("one request of the probe", ours.probe.seconds + bare.probe.seconds),
    ]
    requests = len(ours.probe.seconds) + len(bare.probe.seconds)
    print(table(("milliseconds", *SHARES), rows))
    print(f"{len(ours.served)} rounds each, in turn; {requests:,} requests, none failed; reloads: {reloads}")
    found = []
    for what, mine, floor_ in (
        ("created → served", ours.served, bare.served),
        ("deleted → gone", ours.gone, bare.gone),
    ):
        for name, limit in (("p50", 2), ("p99", 5)):
            ratio = percentile(mine, SHARES[name]) / percentile(floor_, SHARES[name])
            found.append(Goal.at_most(f"{what}: {name}", limit, ratio, " times the floor"))
    found.append(Goal.at_most("reloads", 0, reloads))
    figures = {
        "rounds": len(ours.served), "requests": requests, "reloads": reloads,
        "seconds": {
            name: {"created_to_first": side.served, "deleted_to_last": side.gone, "confirmed": side.confirmed}
            for name, side in (("synapse", ours), ("floor", bare))
        },
        "machine": about,
    }  # fmt: skip
    return close("convergence", figures, found)


def main() -> None:
    """One run."""
    given = arguments(__doc__, rounds=ROUNDS)
    run(chosen(given.haproxy), given.rounds)


if __name__ == "__main__":
    main()
