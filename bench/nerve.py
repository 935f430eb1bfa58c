"""Nerve with 100 and 1,000 checks each second on a real ZooKeeper: what it costs, and how soon it sees a death.

    python -m bench.nerve [--rounds 200] [--haproxy FILE]

The start counts from the call of the program until ZooKeeper has the znode of every service. A death counts from the
closing of the service's socket until its znode is deleted, as a watch tells it; the deaths are spread evenly over the
second between two checks, so half a second is the least that their median can be. CPU is the processor time of all
threads of the daemon in a quarter of a minute of peace, RSS what it has resident at its end. HTTP checks (a GET whose
answer must contain OK) and MySQL checks (a login and a query) are measured in the same way, without deaths.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from bench import usage
from bench.listeners import Listeners, listeners
from bench.origins import origins
from bench.report import SHARES, Goal, close, machine, milliseconds, percentile, table
from bench.stage import arguments, say, stage
from bench.stage import haproxy as chosen
from tests.e2e.programs import Daemon, dockstack
from tests.servers.mariadb import MariaDBServer
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import wait_until

ROUNDS = 200
CROWDS = (100, 1000)
HTTP, MYSQL = 1000, 200
STARTS = 3
INTERVAL = 1.0
SETTLE, PEACE = 3.0, 15.0
LIMIT = 30.0
DEATH_PAUSE, SOON = 0.03, 0.005
ROOT = "/bench/nerve"
RUBY = {100: "7.3 % CPU, 40 MB, 1.2 s, 0.29 / 0.89 s", 1000: "59 % CPU, 97 MB, 6.1 s, 0.53 / 1.03 s"}


@dataclass(slots=True)
class Found:
    """Of one run: seconds of the starts, share of a core, megabytes, and seconds from each death to its znode's end."""

    what: str
    starts: list[float] = field(default_factory=list)
    cpu: float = 0.0
    rss: float = 0.0
    deaths: list[float] = field(default_factory=list)


def service(server: ZooKeeperServer, number: int, port: int, check: Mapping[str, Any]) -> dict[str, Any]:
    """One service with one check each second."""
    return {
        "host": "127.0.0.1",
        "port": port,
        "zk_hosts": [server.hosts],
        "zk_path": f"{ROOT}/{number:04}",
        "check_interval": INTERVAL,
        "checks": [{"rise": 1, "fall": 1, **check}],
    }


@contextmanager
def nerve(directory: Path, services: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Daemon, float]]:
    """Runs it; gives the moment of the call, too."""
    directory.mkdir()
    named = {f"s{number:04}": one for number, one in enumerate(services)}
    (directory / "nerve.json").write_text(json.dumps({"instance_id": "bench", "services": named}))
    called = time.monotonic()
    with dockstack(
        directory / "log", "nerve", "-c", str(directory / "nerve.json"), "--run-dir", str(directory)
    ) as daemon:
        yield daemon, called


def until_registered(server: ZooKeeperServer, daemon: Daemon, count: int) -> float:
    """The moment at which ZooKeeper had that many ephemeral nodes."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and daemon.process.poll() is None:
        found = re.search(r"zk_ephemerals_count\t(\d+)", server.ask("mntr"))
        if found is not None and int(found[1]) == count:
            return time.monotonic()
        time.sleep(0.01)
    raise SystemExit(f"not all {count} services were registered within {LIMIT:.0f} s\n{daemon.output[-4000:]}")


def measure(
    scratch: Path,
    server: ZooKeeperServer,
    what: str,
    services: Sequence[Mapping[str, Any]],
    *,
    crowd: Listeners | None = None,
    rounds: int = 0,
) -> Found:
    """Some starts, then the cost in peace, then so many deaths."""
    found = Found(what)
    for number in range(STARTS):
        with nerve(scratch / f"{what.replace(' ', '-')}-{number}", services) as (daemon, called):
            found.starts.append(until_registered(server, daemon, len(services)) - called)
            if number + 1 < STARTS:
                continue
            time.sleep(SETTLE)
            before, began = usage.cpu(daemon.process.pid), time.monotonic()
            time.sleep(PEACE)
            found.cpu = (usage.cpu(daemon.process.pid) - before) / (time.monotonic() - began)
            if crowd is not None:
                found.deaths = deaths(server, daemon, crowd, rounds)
            found.rss = usage.rss(daemon.process.pid)
    say(f"{what}: {found.cpu:.1%} of a core, {found.rss:.0f} MB")
    return found


def deaths(server: ZooKeeperServer, daemon: Daemon, crowd: Listeners, rounds: int) -> list[float]:
    """Seconds from the closing of a socket to the end of its znode; the services come back meanwhile."""
    client = KazooClient(hosts=server.hosts, timeout=LIMIT)
    client.start(LIMIT)
    taken: list[float] = []
    try:
        while len(taken) < rounds:
            taken += _batch(client, crowd, min(rounds - len(taken), len(crowd.ports) // 2))
            until_registered(server, daemon, len(crowd.ports))
    finally:
        client.stop()
        client.close()
    return taken


def _batch(client: KazooClient, crowd: Listeners, count: int) -> list[float]:
    """So many deaths, spread evenly over the time between two checks: each has its distance to the next one, and takes
    the service that will be as far from its own soonest. By chance the median of 200 would be up to 70 ms off."""
    ended: dict[int, float] = {}
    for number in range(len(crowd.ports)):
        path = f"{ROOT}/{number:04}"
        (node,) = client.get_children(path)
        client.exists(f"{path}/{node}", watch=lambda _, number=number: ended.setdefault(number, time.monotonic()))
    killed: dict[int, float] = {}
    for place in random.sample(range(count), count):
        time.sleep(DEATH_PAUSE * (0.5 + random.random()))
        distance, now = (place + random.random()) / count * INTERVAL, time.monotonic() + SOON
        alive = [one for one in range(len(crowd.ports)) if one not in killed]
        waits = [(crowd.asked[one] - distance - now) % INTERVAL for one in alive]
        wait, number = min(zip(waits, alive, strict=True))
        time.sleep(max(0.0, now + wait - time.monotonic()))
        killed[number] = crowd.kill(number)
    wait_until(lambda: killed.keys() <= ended.keys(), "the end of all znodes of dead services", LIMIT)
    for number in killed:
        crowd.open(number)
    return [ended[number] - killed[number] for number in killed]


def run(binary: Path, rounds: int = ROUNDS) -> tuple[Goal, ...]:
    """Measures, prints and writes; returns how the figures stand to the goals."""
    about = machine(binary)
    sys.setswitchinterval(0.0005)  # seconds; who hears of a death must not wait for the thread that accepts
    tcp: dict[int, Found] = {}
    with stage() as scratch, ZooKeeperServer(scratch / "zookeeper") as server:
        for count in CROWDS:
            with listeners(count) as crowd:
                wanted = [service(server, n, port, {"type": "tcp"}) for n, port in enumerate(crowd.ports)]
                tcp[count] = measure(scratch, server, f"{count} TCP", wanted, crowd=crowd, rounds=rounds)
        with origins(scratch, binary, "web") as ports:
            check = {"type": "http", "uri": "/health", "expect": "OK", "timeout": 0.5}
            wanted = [service(server, number, ports["web"], check) for number in range(HTTP)]
            http = measure(scratch, server, f"{HTTP} HTTP", wanted)
        with MariaDBServer(scratch / "mariadb") as database:
            database.create_user("haproxy_check")
            check = {"type": "mysql", "username": "haproxy_check", "timeout": 0.5}
            wanted = [service(server, number, database.port, check) for number in range(MYSQL)]
            mysql = measure(scratch, server, f"{MYSQL} MySQL", wanted)
    return _tell(about, tcp, (http, mysql))


def _tell(about: Mapping[str, str], tcp: Mapping[int, Found], others: Sequence[Found]) -> tuple[Goal, ...]:
    everyone = (*tcp.values(), *others)
    rows = [
        (one.what, f"{one.cpu * 100:.1f}", f"{one.rss:.0f}", f"{percentile(one.starts, 0.5):.2f}") for one in everyone
    ]
    print(table(("checks each second", "CPU, % of a core", "RSS, MB", "start, s"), rows), end="\n\n")
    delays = [milliseconds(one.what, one.deaths) for one in tcp.values()]
    print(table(("service killed → znode gone, ms", *SHARES), delays))
    for count, theirs in RUBY.items():
        print(f"for comparison, Ruby nerve with {count} (measured apart, on a machine of the same size): {theirs}")
    most = tcp[CROWDS[-1]]
    found = [
        Goal.at_most(f"CPU at {most.what} checks each second", 25, most.cpu * 100, " %"),
        Goal.at_most(f"RSS at {most.what}", 60, most.rss, " MB"),
        Goal.at_most(f"start → all znodes at {most.what}, median", 1.5, percentile(most.starts, 0.5), " s"),
        Goal.at_most(
            f"killed → znode gone at {most.what}: p50", INTERVAL * 500 + 10, percentile(most.deaths, 0.5) * 1000, " ms"
        ),
        Goal.at_most(f"killed → znode gone at {most.what}: max", INTERVAL * 1000 + 10, max(most.deaths) * 1000, " ms"),
    ]
    figures = {
        one.what: {
            "cpu_cores": one.cpu, "rss_mb": one.rss, "starts_seconds": one.starts, "killed_to_gone_seconds": one.deaths,
        }
        for one in everyone
    }  # fmt: skip
    return close("nerve", {**figures, "machine": about}, found)


def main() -> None:
    """One run."""
    given = arguments(__doc__, rounds=ROUNDS)
    run(chosen(given.haproxy), given.rounds)


if __name__ == "__main__":
    main()
