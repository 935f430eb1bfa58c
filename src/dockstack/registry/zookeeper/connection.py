"""One connection to one ZooKeeper server: handshake, pipelined requests, watch events, pings.

Whatever ends it (end of file, reset, silence, nonsense) fails all pending requests at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from aiozk import exc
from aiozk.protocol.auth import AuthRequest
from aiozk.protocol.close import CloseRequest
from aiozk.protocol.connect import ConnectRequest, ConnectResponse
from aiozk.protocol.ping import PingRequest
from aiozk.protocol.request import Request
from aiozk.protocol.watches import WatchEvent

from dockstack.errors import RegistryUnavailable
from dockstack.model import Address
from dockstack.registry.zookeeper.wire import (
    AUTH_XID,
    PING_XID,
    WATCH_XID,
    Frames,
    Reply,
    event,
    failure,
    frame,
    reply,
    response,
    welcome,
)

OnWatch = Callable[[WatchEvent], None]

_MISPLACED = (exc.SessionExpired, exc.SessionMoved)


class Interrupted(RegistryUnavailable):
    """The connection was lost after the request went out: the server may have carried it out or not."""


@dataclass(frozen=True, slots=True)
class Server:
    """One address of a host in the list."""

    host: str
    ip: str
    port: int

    def __str__(self) -> str:
        named = Address(self.ip, self.port)
        return str(named) if self.host == self.ip else f"{self.host} ({named})"


class Connection(asyncio.Protocol):
    """Made by `connect`; usable until `closed` is done, whose result is the reason."""

    def __init__(self, server: Server, on_watch: OnWatch) -> None:
        loop = asyncio.get_running_loop()
        self.server = server
        self.closed: asyncio.Future[str] = loop.create_future()
        self.zxid = 0
        self.heard = loop.time()
        self._loop = loop
        self._on_watch = on_watch
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._welcome: asyncio.Future[ConnectResponse] | None = loop.create_future()
        self._auth: asyncio.Future[None] | None = None
        self._pending: deque[tuple[int, int, asyncio.Future[Any]]] = deque()
        self._outgoing: list[bytes] = []
        self._xid = 0

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection was lost ({exc})" if exc else "the server closed the connection")

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
        try:
            for body in self._frames.feed(data):
                self._take(body)
        except ValueError as error:
            self.abort(f"the server sent what cannot be read: {error}")

    # requests

    async def handshake(self, request: ConnectRequest) -> ConnectResponse:
        """Opens or resumes a session; the caller limits the time. Raises RegistryUnavailable."""
        assert self._welcome is not None
        self._write(request.serialize())
        answer = await self._welcome
        self._welcome = None
        return answer

    async def authenticate(self, username: str, password: str) -> None:
        """Digest authentication; the caller limits the time. Raises aiozk's AuthFailed, or RegistryUnavailable."""
        if self.closed.done():
            raise RegistryUnavailable(f"{self.server}: {self.closed.result()}")
        self._auth = self._loop.create_future()
        credentials = f"{username}:{password}".encode()
        self._write(AuthRequest(type=0, scheme="digest", auth=credentials).serialize(xid=AUTH_XID))
        await self._auth

    def send(self, request: Request) -> asyncio.Future[Any]:
        """Sends without waiting; the future gets aiozk's response, its ResponseError, or Interrupted.

        On a connection that is closed already it gets RegistryUnavailable: nothing was sent.
        """
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.closed.done():
            answer.set_exception(RegistryUnavailable(f"{self.server}: {self.closed.result()}"))
            answer.exception()
            return answer
        self._xid = self._xid % 0x7FFFFFFF + 1
        self._pending.append((self._xid, request.opcode, answer))
        self._write(request.serialize(xid=self._xid))
        return answer

    def ping(self) -> None:
        """Tells the server that the session lives; its answer counts as having been heard."""
        if not self.closed.done():
            self._write(PingRequest().serialize(xid=PING_XID))

    async def end_session(self) -> None:
        """Asks the server to end the session (its ephemeral nodes go) and waits for its word. Raises as `send`."""
        await self.send(CloseRequest())

    def abort(self, reason: str) -> None:
        """Drops the connection at once."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    # inside

    def _write(self, body: bytes) -> None:
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(frame(body))

    def _flush(self) -> None:
        burst = b"".join(self._outgoing)
        self._outgoing.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(burst)

    def _take(self, body: bytes) -> None:
        if self.closed.done():
            return  # aborted by an earlier frame of the same bytes
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_result(welcome(body))
            return
        answer = reply(body)
        self.zxid = max(self.zxid, answer.zxid)
        if answer.xid == WATCH_XID:
            self._on_watch(event(answer.payload))
        elif answer.xid == AUTH_XID:
            if self._auth is not None and not self._auth.done():
                _settle(self._auth, answer, None)
        elif answer.xid != PING_XID:
            self._answer(answer)

    def _answer(self, answer: Reply) -> None:
        if not self._pending or self._pending[0][0] != answer.xid:
            raise ValueError(f"reply {answer.xid} is to no request of ours")
        if answer.error and isinstance(failure(answer.error), _MISPLACED):
            # This server no longer serves the session: its fate is learnt by connecting again.
            self.abort("the session has ended, or lives on another connection")
            return
        _, opcode, future = self._pending[0]
        value = None if answer.error or future.done() else response(opcode, answer.payload)
        self._pending.popleft()
        if not future.done():
            _settle(future, answer, value)

    def _end(self, reason: str) -> None:
        if self.closed.done():
            return
        self.closed.set_result(reason)
        lost = f"{self.server}: {reason}"
        for waiting in (self._welcome, self._auth):
            if waiting is not None and not waiting.done():
                waiting.set_exception(RegistryUnavailable(lost))
                waiting.exception()
        while self._pending:
            _, _, future = self._pending.popleft()
            if not future.done():
                future.set_exception(Interrupted(lost))
                future.exception()  # nobody may be left to fetch it


def _settle(future: asyncio.Future[Any], answer: Reply, value: Any) -> None:
    if answer.error:
        future.set_exception(failure(answer.error))
        future.exception()
    else:
        future.set_result(value)


async def resolve(host: Address, limit: float) -> list[Server]:
    """All addresses of a host, in no order, so that many clients spread. Raises RegistryUnavailable."""
    try:
        return [Server(host.host, str(ipaddress.ip_address(host.host)), host.port)]
    except ValueError:
        pass  # a name; an address needs no thread
    try:
        async with asyncio.timeout(limit):
            found = await asyncio.get_running_loop().getaddrinfo(host.host, host.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise RegistryUnavailable(f"{host.host} could not be resolved within {limit:.1f} s") from None
    except OSError as error:
        raise RegistryUnavailable(f"{host.host} could not be resolved: {error.strerror or error}") from None
    ips = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    random.shuffle(ips)
    return [Server(host.host, ip, host.port) for ip in ips]


async def connect(server: Server, tls: ssl.SSLContext | None, on_watch: OnWatch, limit: float) -> Connection:
    """A connection, with TLS where a context is given, within `limit` seconds. Raises RegistryUnavailable."""
    try:
        async with asyncio.timeout(limit):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(server, on_watch),
                server.ip,
                server.port,
                ssl=tls,
                server_hostname=server.host if tls else None,
            )
    except TimeoutError:
        raise RegistryUnavailable(f"{server} did not accept a connection within {limit:.1f} s") from None
    except OSError as error:
        raise RegistryUnavailable(f"{server}: {error.strerror or error}") from None
    return connection
