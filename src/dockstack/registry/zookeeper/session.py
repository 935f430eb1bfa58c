"""One ZooKeeper session over as many connections as it takes.

A lost connection suspends the session: everything is kept, and the same session is resumed on any server of the list.
Only the server's word that the session has expired makes a new one.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Iterator
from typing import Any

from aiozk import exc
from aiozk.protocol.connect import ConnectRequest
from aiozk.protocol.request import Request

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit
from dockstack.registry import Locator
from dockstack.registry.zookeeper.connection import Connection, OnWatch, connect
from dockstack.registry.zookeeper.events import Connected, Expired, Suspended, Unreachable
from dockstack.runtime.latest import Latest
from dockstack.runtime.pace import pauses

CLOSING = 1.5
"""Seconds for the server to confirm the end of a session."""

_STEADY = 1.0  # seconds that a connection must live before the next loss is answered at once again
_NO_SESSION = (0, b"\0" * 16)


class _Refused(Exception):
    """The handshake was answered with: this session has expired."""


class Session:
    """`run` keeps it alive and must run as long as it is used; `call` waits for a connection and for the answer.

    `links` carries (session id, number of the connection) whenever a connection is ready for requests.
    """

    def __init__(self, locator: Locator, tls: ssl.SSLContext | None, on_watch: OnWatch, emit: Emit) -> None:
        self.id = 0
        self.links: Latest[tuple[int, int]] = Latest()
        self._locator = locator
        self._tls = tls
        self._on_watch = on_watch
        self._emit = emit
        self._password = _NO_SESSION[1]
        self._timeout = locator.session_timeout
        self._connection: Connection | None = None
        self._count = 0
        self._zxid = 0
        self._since = time.monotonic()
        self._reason = "not connected yet"
        self._said = ""

    @property
    def limit(self) -> float:
        """Seconds that one call may take: half the session's time-out."""
        return self._timeout / 2

    @property
    def zxid(self) -> int:
        """The newest transaction that this session has seen."""
        return self._connection.zxid if self._connection is not None else self._zxid

    @property
    def state(self) -> str:
        """One line for an operator."""
        if self._connection is not None:
            return f"connected to {self._connection.server}"
        return f"not connected for {time.monotonic() - self._since:.0f} s: {self._reason}"

    async def run(self) -> None:
        """Connects, and connects again, for ever: at once after a loss, then with growing, jittered pauses."""
        waits = self._pauses()
        hosts = self._rotation()
        while True:
            host = next(hosts)
            try:
                connection = await self._open(host.host, host.port)
            except _Refused:
                self._emit(Expired(self.id))
                self.id, self._password = _NO_SESSION
                self._count += 1
                self.links.put((0, self._count))
            except (RegistryUnavailable, exc.ZKError) as error:
                self._fail(str(error))
            else:
                began = time.monotonic()
                await self._serve(connection)
                if time.monotonic() - began > _STEADY:
                    waits = self._pauses()
            await asyncio.sleep(next(waits))

    async def call(self, request: Request) -> Any:
        """aiozk's response. Raises aiozk's ResponseError; RegistryUnavailable when there is no answer in time, and
        Interrupted (a kind of it) when the request was sent but the connection broke before the answer."""
        try:
            async with asyncio.timeout(self.limit):
                connection = await self.connected()
                return await connection.send(request)
        except TimeoutError:
            raise RegistryUnavailable(f"{self._locator}: no answer within {self.limit:.1f} s ({self.state})") from None
        except (exc.SessionExpired, exc.SessionMoved, exc.ConnectionLoss, exc.OperationTimeout) as error:
            raise RegistryUnavailable(f"{self._locator}: {error}") from None

    async def connected(self) -> Connection:
        """The connection, as soon as there is one. The caller limits the time."""
        version = 0
        while (connection := self._connection) is None:
            version, _ = await self.links.after(version)
        return connection

    async def close(self) -> None:
        """Ends the session on the server if it can be told within `CLOSING` seconds; `run` must have ended."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(CLOSING):
                await connection.end_session()
        except (TimeoutError, RegistryUnavailable, exc.ZKError):
            pass  # the server ends the session after its time-out
        finally:
            connection.abort("closed by us")

    async def _open(self, host: str, port: int) -> Connection:
        limit = max(0.2, min(self._timeout / 3, 5.0))
        connection = await connect(host, port, self._tls, self._on_watch, limit)
        try:
            async with asyncio.timeout(limit):
                await self._greet(connection)
        except TimeoutError:
            connection.abort("the handshake was not answered")
            raise RegistryUnavailable(
                f"{connection.server} accepts connections but did not answer within {limit:.1f} s"
            ) from None
        except BaseException:
            connection.abort("the handshake failed")
            raise
        return connection

    async def _greet(self, connection: Connection) -> None:
        resumed = self.id != 0
        answer = await connection.handshake(
            ConnectRequest(
                protocol_version=0,
                last_seen_zxid=self._zxid,
                timeout=int(self._locator.session_timeout * 1000),
                session_id=self.id,
                password=self._password,
                read_only=False,
            )
        )
        if not answer.session_id or answer.timeout <= 0:
            raise _Refused if resumed else RegistryUnavailable(f"{connection.server} gave no session")
        self.id, self._password = answer.session_id, answer.password
        self._timeout = answer.timeout / 1000
        if self._locator.username is not None:
            await connection.authenticate(self._locator.username, self._locator.password or "")
        self._emit(Connected(connection.server, self.id, self._timeout, resumed))

    async def _serve(self, connection: Connection) -> None:
        """Keeps the connection alive until it is lost. A server that is silent for 2/3 of the time-out is dead."""
        self._connection, self._said = connection, ""
        self._count += 1
        self.links.put((self.id, self._count))
        await self._beat(connection)
        self._connection = None
        self._zxid = connection.zxid or self._zxid
        self._since = time.monotonic()
        self._reason = f"{connection.server}: {connection.closed.result()}"
        self._emit(Suspended(self._reason))

    async def _beat(self, connection: Connection) -> None:
        interval = self._timeout / 3
        clock = asyncio.get_running_loop().time
        while not connection.closed.done():
            await asyncio.wait({connection.closed}, timeout=interval)
            if connection.closed.done():
                return
            silent = clock() - connection.heard
            if silent > 1.5 * interval:  # on the second beat, whatever the clock's grain
                connection.abort(f"nothing was heard for {silent:.1f} s")
                return
            connection.ping()

    def _fail(self, reason: str) -> None:
        self._reason = reason
        if reason != self._said:
            self._said = reason
            self._emit(Unreachable(str(self._locator), reason))

    def _pauses(self) -> Iterator[float]:
        return pauses(max(0.05, self._timeout / 10), random.random)

    def _rotation(self) -> Iterator[Any]:
        hosts = list(self._locator.hosts)
        random.shuffle(hosts)
        while True:
            yield from hosts
