"""Many servers in a short time: a rolling deploy, 20 servers 0.5 s apart, and 500 at once, which then leave at once.

    python -m bench.burst [--haproxy FILE]

A server of the deploy counts from the moment at which its znode is sent to its first answer. The 500 count from the
confirmation of the last znode until HAProxy has all of them in rotation (`show servers state`), as do those that leave.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench import haproxy
from bench.nodes import Nodes, Write, instance, zookeeper
from bench.origins import origins
from bench.probe import Probe, Unserved
from bench.report import SHARES, Goal, close, machine, milliseconds, table
from bench.stage import arguments, stage
from bench.stage import haproxy as chosen
from bench.synapse import Synapse, service, synapse
from dockstack.synapse.haproxy.model import Admin
from tests.servers.ports import free_port
from tests.waiting import wait_until

BACKEND = "web"
PATH = "/bench/burst"
ROLLING, APART = 20, 0.5
CROWD = 500
LIMIT = 30.0


def deploy(nodes: Nodes, probe: Probe, port: int) -> list[float]:
    """Seconds until each server of the rolling deploy was served."""
    found = []
    for number in range(ROLLING):
        begun = time.monotonic()
        name = f"deployed-{number}"
        write = nodes.create_soon(f"{PATH}/{name}", instance(name, "127.0.0.1", port))
        found.append(probe.first(f"{name}_127.0.0.1:{port}", "new") - write.sent)
        time.sleep(max(0.0, APART - (time.monotonic() - begun)))
    return found


def until_in_rotation(ours: Synapse, count: int) -> float:
    """When HAProxy has that many servers in rotation."""
    end = time.monotonic() + LIMIT
    while True:
        ready = [one for one in haproxy.servers(ours.stats, BACKEND).values() if one.admin is Admin.READY]
        now = time.monotonic()
        if len(ready) == count:
            return now
        if now > end:
            raise Unserved(f"{len(ready)} of {count} servers are in rotation after {LIMIT:.0f} s")
        time.sleep(0.005)


def crowd(nodes: Nodes, ours: Synapse, port: int, there: int) -> tuple[list[Write], float, list[Write], float]:
    """The writes of the 500 and when all were in rotation; then the deletions, and when all were out."""
    names = [f"crowd-{number}" for number in range(CROWD)]
    came = nodes.create((f"{PATH}/{name}", instance(name, "127.0.0.1", port)) for name in names)
    up = until_in_rotation(ours, there + CROWD)
    time.sleep(1)
    left = nodes.delete(write.node for write in came)
    return came, up, left, until_in_rotation(ours, there)


def run(binary: Path) -> tuple[Goal, ...]:
    """Measures, prints and writes; returns how the figures stand to the goals."""
    about = machine(binary)
    with stage() as scratch, zookeeper(scratch) as nodes, origins(scratch, binary, "old", "new") as ports:
        nodes.make([PATH])
        nodes.create((f"{PATH}/{name}", instance(name, "127.0.0.1", ports["old"])) for name in ("one", "two"))
        front = free_port()
        with synapse(scratch / "s", {BACKEND: service(nodes.hosts, PATH, front)}, binary) as ours:
            ours.until_serving()
            wait_until(lambda: len(haproxy.servers(ours.stats, BACKEND)) == 2, "both servers")
            before = ours.reloads
            rolled = deploy(nodes, Probe(front), ports["new"])
            after_deploy = ours.reloads - before
            came, up, left, down = crowd(nodes, ours, ports["new"], 2 + ROLLING)
            after_crowd = ours.reloads - before - after_deploy
    spans = [
        (f"{CROWD} znodes created", came[-1].acknowledged - came[0].sent, up - came[-1].acknowledged),
        (f"{CROWD} znodes deleted", left[-1].acknowledged - left[0].sent, down - left[-1].acknowledged),
    ]
    print(table(("milliseconds", *SHARES), [milliseconds(f"{ROLLING} servers, {APART} s apart: each", rolled)]))
    print()
    rows = [(what, f"{took * 1000:.0f}", f"{after * 1000:.0f}") for what, took, after in spans]
    print(table(("milliseconds", "first sent → last confirmed", "last confirmed → all applied"), rows))
    found = [
        Goal.at_most(f"{ROLLING} servers {APART} s apart: reloads", 0, after_deploy),
        Goal.at_most(f"{CROWD} at once: reloads", 0, after_crowd),
        Goal.at_most(f"{CROWD} at once: applied after the last znode", 1, spans[0][2], " s"),
        Goal.at_most(f"{CROWD} gone at once: out after the last znode", 1, spans[1][2], " s"),
    ]
    figures = {
        "rolling_seconds": rolled,
        "crowd_seconds": {
            what: {"written": took, "applied_after_last": after} for what, took, after in spans
        },
        "reloads": {"rolling": after_deploy, "crowd": after_crowd},
        "machine": about,
    }  # fmt: skip
    return close("burst", figures, found)


def main() -> None:
    """One run."""
    run(chosen(arguments(__doc__).haproxy))


if __name__ == "__main__":
    main()
