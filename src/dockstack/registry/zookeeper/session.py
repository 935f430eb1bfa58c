"""One ZooKeeper session over as many connections as it takes.

A lost connection suspends the session: everything is kept, and the same session is resumed on any server of the list.
Only the server's word that the session has expired makes a new one.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiozk import exc
from aiozk.protocol.connect import ConnectRequest
from aiozk.protocol.request import Request

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit
from dockstack.model import Address
from dockstack.registry import Locator
from dockstack.registry.zookeeper.connection import Connection, OnWatch, Server, connect, resolve
from dockstack.registry.zookeeper.events import Connected, Expired, Suspended, Unreachable
from dockstack.runtime.latest import Latest
from dockstack.runtime.pace import Reminder, pauses

CLOSING = 1.5
"""Seconds for the server to confirm the end of a session."""

_STEADY = 1.0  # seconds that a connection must live before the next loss is answered at once again
_NO_SESSION = (0, b"\0" * 16)
_BURST = 500  # requests written before other tasks have a turn

OnLink = Callable[[int], None]


class _Refused(Exception):
    """The handshake was answered with: this session has expired."""


class Session:
    """`run` keeps it alive and must run as long as it is used; `call` waits for a connection and for the answer.

    `on_link` is told the session's id whenever a connection is ready, before any request goes over it, and 0 when the
    session has expired.
    """

    def __init__(
        self, locator: Locator, tls: ssl.SSLContext | None, on_watch: OnWatch, on_link: OnLink, emit: Emit
    ) -> None:
        self.id, self._password = _NO_SESSION
        self._locator = locator
        self._tls = tls
        self._on_watch = on_watch
        self._on_link = on_link
        self._emit = emit
        self._timeout = locator.session_timeout
        self._hosts = _in_turn(locator.hosts)
        self._servers: deque[Server] = deque()
        self._connection: Connection | None = None
        self._links: Latest[None] = Latest()
        self._zxid = 0
        self._since = time.monotonic()
        self._reason = "not connected yet"
        self._said: dict[str, Reminder] = {}

    @property
    def limit(self) -> float:
        """Seconds that one call may take: half the session's time-out."""
        return self._timeout / 2

    @property
    def zxid(self) -> int:
        """The newest transaction that this session has seen."""
        return max(self._zxid, self._connection.zxid if self._connection is not None else 0)

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and not self._connection.closed.done()

    @property
    def state(self) -> str:
        """One line for an operator."""
        if self._connection is not None:
            return f"connected to {self._connection.server}"
        return f"not connected for {time.monotonic() - self._since:.0f} s: {self._reason}"

    async def run(self) -> None:
        """Connects, and connects again, for ever: at once after a loss, then with growing, jittered pauses."""
        waits = self._pauses()
        while True:
            try:
                connection = await self._open(await self._next_server())
            except _Refused:
                self._emit(Expired(self.id, self._locator))
                self.id, self._password = _NO_SESSION
                self._on_link(0)
                continue  # without a pause, but only once: without a session nothing can be refused
            except RegistryUnavailable as error:
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
            raise self._no_answer(self.limit) from None

    async def call_all(self, requests: Sequence[Request]) -> list[Any]:
        """The responses, and ResponseErrors, of requests that are sent without waiting for each other's answers.

        The time grows with their number. Raises RegistryUnavailable when one of them has no answer.
        """
        if not requests:
            return []
        limit = self.limit + len(requests) / 1000
        answers = []
        try:
            async with asyncio.timeout(limit):
                connection = await self.connected()
                for number, request in enumerate(requests, 1):
                    answers.append(connection.send(request))
                    if number % _BURST == 0:
                        await asyncio.sleep(0)
                await asyncio.wait({answers[-1]})  # a server answers in order
        except TimeoutError:
            raise self._no_answer(limit) from None
        return [_outcome(answer) for answer in answers]

    def tell(self, request: Request) -> None:
        """Sends the request if there is a connection; nobody waits for the answer."""
        if self._connection is not None:
            self._connection.send(request)

    async def connected(self) -> Connection:
        """The connection, as soon as there is one. The caller limits the time."""
        version = 0
        while (connection := self._connection) is None or connection.closed.done():
            version, _ = await self._links.after(version)
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

    async def _next_server(self) -> Server:
        if not self._servers:
            self._servers.extend(await resolve(next(self._hosts), self._connecting))
        return self._servers.popleft()

    @property
    def _connecting(self) -> float:
        """Seconds for one step towards one server. With a session to lose, what is left of its time after a silent
        loss (a third) is shared by the hosts."""
        share = 3 * len(self._locator.hosts) if self.id else 3
        return max(0.2, min(self._timeout / share, 5.0))

    async def _open(self, server: Server) -> Connection:
        limit = self._connecting
        connection = await connect(server, self._tls, self._on_watch, limit)
        try:
            async with asyncio.timeout(limit):
                await self._greet(connection)
        except TimeoutError:
            connection.abort("the handshake was not answered")
            raise RegistryUnavailable(f"{server} accepts connections but did not answer within {limit:.1f} s") from None
        except _Refused:
            connection.abort("the session has expired")
            self._servers.appendleft(server)  # it answers: it may give the new one
            raise
        except BaseException:
            connection.abort("the handshake failed")
            raise
        return connection

    async def _greet(self, connection: Connection) -> None:
        resumed = self.id != 0
        if time.monotonic() - self._since > self._timeout:
            # A server that has seen less hangs up without a word, and one that has lost its data always has. After the
            # session's time is over it is asked all the same, to hear that the session has expired.
            self._zxid = 0
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
        await self._authenticate(connection)
        self._emit(Connected(str(connection.server), self.id, self._timeout, resumed))

    async def _authenticate(self, connection: Connection) -> None:
        name = self._locator.username
        if name is None:
            return
        try:
            await connection.authenticate(name, self._locator.password or "")
        except exc.ResponseError as error:
            raise RegistryUnavailable(
                f"{connection.server} refused the digest authentication of the user {name!r}: {error}"
            ) from None

    async def _serve(self, connection: Connection) -> None:
        """Keeps the connection alive until it is lost. A server that is silent for 2/3 of the time-out is dead."""
        self._connection = connection
        self._said.clear()
        self._servers.clear()
        self._on_link(self.id)
        self._links.put(None)
        await self._beat(connection)
        self._zxid = self.zxid
        self._connection = None
        self._since = time.monotonic()
        self._reason = f"{connection.server}: {connection.closed.result()}"
        self._emit(Suspended(self._reason))

    async def _beat(self, connection: Connection) -> None:
        interval = self._timeout / 3
        clock = asyncio.get_running_loop().time
        ping = clock() + interval
        while not connection.closed.done():
            dead = connection.heard + 2 * interval
            await asyncio.wait({connection.closed}, timeout=max(0.0, min(ping, dead) - clock()))
            if connection.closed.done():
                return
            if clock() >= connection.heard + 2 * interval:
                connection.abort(f"nothing was heard for {clock() - connection.heard:.1f} s")
            elif clock() >= ping:
                connection.ping()
                ping = clock() + interval

    def _fail(self, reason: str) -> None:
        self._reason = reason
        now = time.monotonic()
        if self._said.setdefault(reason, Reminder()).due(now):
            self._emit(Unreachable(str(self._locator), reason, now - self._since))

    def _no_answer(self, limit: float) -> RegistryUnavailable:
        return RegistryUnavailable(f"{self._locator}: no answer within {limit:.1f} s ({self.state})")

    def _pauses(self) -> Iterator[float]:
        return pauses(max(0.05, self._timeout / 10), random.random)


def _in_turn(hosts: Sequence[Address]) -> Iterator[Address]:
    """The hosts over and over, in an order that is this client's own."""
    return itertools.cycle(random.sample(hosts, len(hosts)))


def _outcome(answer: asyncio.Future[Any]) -> Any:
    """A response or ResponseError as a value; raises Interrupted."""
    try:
        return answer.result()
    except exc.ResponseError as error:
        return error
