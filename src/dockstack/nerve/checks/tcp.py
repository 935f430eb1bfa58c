"""Up when the port accepts a connection, which is closed at once."""

from __future__ import annotations

import asyncio

from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.settings.nerve import TcpCheck


def build(settings: TcpCheck, target: Address) -> Check:
    """The check; it has no settings of its own."""
    return connect


async def connect(target: Address) -> None:
    """Connects and closes; raises OSError, or Unhealthy where only the check itself answered.

    A connection to a port of the ephemeral range on which nobody listens can, on the same host, be given that very
    port as its source: TCP's simultaneous open then connects the socket with itself, and a dead service looks alive.
    """
    transport, protocol = await asyncio.get_running_loop().create_connection(_Closed, target.host, target.port)
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    transport.abort()
    await protocol.closed
    if peer == own:
        raise Unhealthy(f"nobody listens on {target}: the connection reached itself")


class _Closed(asyncio.Protocol):
    """Knows when its connection is closed, so that a check is over only when its socket is."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():  # its check may have been cancelled
            self.closed.set_result(None)
