"""A synapse with a HAProxy of its own, as an operator would run it, and its file of settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import haproxy
from bench.probe import WISH
from tests.e2e.programs import Daemon, dockstack
from tests.waiting import wait_until

CHECKED = "check inter 2s rise 3 fall 2"
"""The health check that the templates give every server."""

DEFAULTS = (
    "option dontlognull",
    "option redispatch",
    "balance roundrobin",
    "retries 3",
    "timeout connect 5s",
    "timeout client 1m",
    "timeout server 1m",
)


@dataclass(frozen=True, slots=True)
class Synapse:
    """A running one, and where things are."""

    daemon: Daemon
    directory: Path

    @property
    def pid(self) -> int:
        return self.daemon.process.pid

    @property
    def config(self) -> Path:
        return self.directory / "haproxy.cfg"

    @property
    def stats(self) -> Path:
        return self.directory / "haproxy.sock"

    @property
    def reloads(self) -> int:
        return haproxy.reloads(self.directory / "haproxy-master.sock")

    @property
    def worker(self) -> int:
        return haproxy.worker(self.stats)

    def until_serving(self, limit: float = 30.0) -> None:
        """Returns when HAProxy answers."""
        wait_until(lambda: self.ended or haproxy.answers(self.stats), "synapse's HAProxy", limit)
        if self.ended:
            raise SystemExit(self.daemon.output)

    @property
    def ended(self) -> bool:
        return self.daemon.process.poll() is not None


def service(hosts: str, path: str, port: int, *, checked: bool = True) -> dict[str, Any]:
    """An HTTP service below a path of ZooKeeper, on a port of 127.0.0.1."""
    lines = ["mode http", WISH]
    if checked:
        lines += ["option httpchk", "http-check send meth GET uri /health", "http-check expect string OK"]
    options = {"server_options": CHECKED} if checked else {}
    return {
        "discovery": {"method": "zookeeper", "hosts": [hosts], "path": path},
        "haproxy": {"port": port, "listen": lines, **options},
    }


@contextmanager
def synapse(
    directory: Path, services: Mapping[str, Any], binary: Path, *, restart_interval: float = 2.0
) -> Iterator[Synapse]:
    """Runs it on these services; its own directory is made, and both programs are ended with the block."""
    directory.mkdir()
    top = {
        "bind_address": "127.0.0.1",
        "restart_interval": restart_interval,
        "global": [],
        "defaults": list(DEFAULTS),
        "config_file_path": str(directory / "haproxy.cfg"),
        "socket_file_path": str(directory / "haproxy.sock"),
    }
    settings = directory / "synapse.json"
    settings.write_text(json.dumps({"services": services, "haproxy": top}))
    where = ("--run-dir", str(directory), "--state-dir", str(directory / "state"))
    with dockstack(
        directory / "synapse.log", "synapse", "-c", str(settings), *where, "--haproxy", str(binary)
    ) as daemon:
        yield Synapse(daemon, directory)
