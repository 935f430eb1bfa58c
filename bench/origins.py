"""Servers that answer with their name, and OK to `/health`: one HAProxy, so that they cost next to nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench import haproxy
from tests.servers.ports import free_ports

_HEAD = """global
\tstats socket {stats} mode 600 level admin
defaults
\tmode http
\ttimeout connect 5s
\ttimeout client 1m
\ttimeout server 1m
"""
_ORIGIN = """frontend {name}
\tbind {addresses}
\thttp-request return status 200 content-type text/plain string OK if {{ path /health }}
\thttp-request return status 200 content-type text/plain string {name}
"""


@contextmanager
def origins(directory: Path, binary: Path, *names: str, hosts: int = 1) -> Iterator[Mapping[str, int]]:
    """The port of each name; each listens on 127.0.0.1 and the following `hosts` - 1 loopback addresses."""
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    config, stats = directory / "origins.cfg", directory / "origins.sock"
    sections = (
        _ORIGIN.format(name=name, addresses=",".join(f"{loopback(number)}:{port}" for number in range(hosts)))
        for name, port in ports.items()
    )
    config.write_text(_HEAD.format(stats=stats) + "".join(sections))
    with haproxy.running(binary, config, stats):
        yield ports


def loopback(number: int) -> str:
    """127.0.0.1, 127.0.0.2 and so on."""
    return f"127.0.0.{number + 1}"
