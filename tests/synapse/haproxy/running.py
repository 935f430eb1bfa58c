"""A real HAProxy with a small file, for the tests of what talks to it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dockstack.errors import HaproxyUnavailable
from dockstack.synapse.haproxy import master, process
from dockstack.synapse.haproxy.process import Place, Process
from dockstack.synapse.haproxy.runtime import Runtime, connect
from tests.servers.ports import free_port

BODY = """
backend b
  balance roundrobin
  server a 127.0.0.1:1 id 1
  server c 127.0.0.1:3 id 3 weight 30 disabled
backend empty
"""


@dataclass(frozen=True)
class Small:
    """The place, the port of the frontend, and how to write the file again."""

    place: Place
    port: int
    binary: Path

    def write(self, mark: str = "one", body: str = BODY, frontend: str = "", head: str = "") -> None:
        self.place.config.write_text(
            f"global\n  {head}\n  setenv DOCKSTACK_MARK {mark}\n"
            f"  stats socket {self.place.stats_socket} mode 600 level admin expose-fd listeners\n"
            "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\n"
            f"frontend f\n  bind 127.0.0.1:{self.port}\n  default_backend b\n  {frontend}\n{body}\n"
        )

    def at(self, port: int) -> Small:
        return replace(self, port=port)


def small(directory: Path, binary: Path) -> Small:
    place = Place(directory / "haproxy.cfg", directory / "haproxy-master.sock", directory / "haproxy.sock")
    return Small(place, free_port(), binary)


async def reach(place: Place, limit: float = 10.0) -> Runtime:
    """A Runtime API connection as soon as there is one."""
    async with asyncio.timeout(limit):
        while True:
            try:
                return await connect(place.stats_socket, 2.0)
            except HaproxyUnavailable:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def started(one: Small) -> AsyncIterator[Process]:
    """That HAProxy, worker and master answering; killed at the end, whatever has been started there meanwhile."""
    running = process.start(one.binary, one.place)
    try:
        (await reach(one.place)).close()
        await master.processes(one.place.master_socket, 10)
        yield running
    finally:
        running.signal(signal.SIGKILL)
        await running.gone_within(5)
        running.close()
        await process.clear(one.place)
