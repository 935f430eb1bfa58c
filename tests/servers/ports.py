"""Loopback ports that nobody listens on and that no outgoing connection will take meanwhile."""

from __future__ import annotations

import random
import socket

# Below Linux' range for outgoing connections (32768 and up): a server that is down for a moment finds its port free.
_RANGE = range(15000, 32000)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a plain bind works. With SO_REUSEPORT it would also work beside a HAProxy that listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens, chosen at random so that two test runs seldom meet."""
    for _ in range(200):
        port = random.choice(_RANGE)
        if is_free(port):
            return port
    raise RuntimeError(f"no free port of 200 tried in {_RANGE.start}-{_RANGE.stop - 1}")


def free_ports(count: int) -> tuple[int, ...]:
    """That many different free ports."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return tuple(ports)


def accepts(port: int, host: str = "127.0.0.1", limit: float = 1.0) -> bool:
    """Whether something accepts a connection there now, within `limit` seconds."""
    try:
        socket.create_connection((host, port), timeout=limit).close()
    except OSError:
        return False
    return True
