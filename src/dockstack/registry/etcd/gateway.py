"""Calls and streams to etcd's JSON gateway, over whichever member answers.

A member that fails or falls silent is left for the next one, with all connections to it. What was asked may have been
done even so: callers ask only for what can be done twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit
from dockstack.registry import Locator
from dockstack.registry.etcd.answers import Fields, Refused, answer_of, message, refusal
from dockstack.registry.etcd.events import Connected, Unreachable
from dockstack.runtime.pace import Reminder
from dockstack.runtime.shared import Shared

EACH = 1.5
"""Seconds that one member has for an answer, and for each further piece of it."""

WHOLE = 30.0
"""Seconds for an answer that comes in many pieces: the members of a large path over a slow line."""

TRIES = 3
"""Members that one call asks, one after the other."""

PROBE = 2.0
"""Seconds between two questions whether the member in use is alive and knows its leader."""

AT_ONCE = 50
"""Paths that are read, or whose watches are opened, at one time: of thousands, most would wait for our own processor,
and their deadlines would blame the member."""

_GONE = (aiohttp.ClientError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A member and the connections to it."""

    at: int
    session: aiohttp.ClientSession
    logins: Shared[str] = field(default_factory=Shared)


class Gateway:
    """`run` must be running as long as it is used, and `close` ends it."""

    def __init__(self, locator: Locator, tls: ssl.SSLContext | None, emit: Emit) -> None:
        self._hosts = locator.hosts
        self._user = locator.username
        self._password = locator.password
        self._tls = tls
        self._emit = emit
        self._token: str | None = None
        self._line = self._open(random.randrange(len(self._hosts)))
        self._left: list[_Line] = []
        self._readers: set[asyncio.Timeout] = set()
        self._news = asyncio.Event()
        self._since = time.monotonic()
        self._reason = "nothing was asked yet"
        self._up = False
        self._said = Reminder()
        self._failures = 0
        self._closed = False
        self.turns = asyncio.Semaphore(AT_ONCE)
        """Whoever follows a path takes one to read it; a watch takes one to be opened."""
        self.revision: int | None = None
        """That of the store when a member last spoke of it, if it may be asked for that."""

    @property
    def is_up(self) -> bool:
        """Whether a member answers."""
        return self._up

    @property
    def state(self) -> str:
        """One line for the status page."""
        if self._up:
            return f"connected to {self._hosts[self._line.at]}"
        return f"not connected for {time.monotonic() - self._since:.0f} s: {self._reason}"

    async def run(self) -> None:
        """For ever: ends connections that were left, and leaves a member that is silent or has no leader."""
        while True:
            while self._left:
                await _end(self._left[0])
                self._left.pop(0)
            self._news.clear()
            try:
                async with asyncio.timeout(PROBE):
                    await self._news.wait()
                    continue
            except TimeoutError:
                pass
            line = self._line
            try:
                status = await self._ask(line, "maintenance/status", {}, self._token)
                self.revision = int(status.get("header", {}).get("revision", 0))
                if not int(status.get("leader", 0)):
                    self._leave(line, "the member has no leader")
            except Refused as error:
                self.revision = None
                if error.elsewhere:
                    self._leave(line, str(error))
            except RegistryUnavailable as error:
                self._leave(line, str(error))

    def renew(self, reason: str) -> None:
        """Leaves the member, with all connections to it."""
        self._leave(self._line, reason)

    async def close(self) -> None:
        """Ends all connections, for good."""
        self._closed = True
        for one in (self._line, *self._left):
            await _end(one)

    async def call(self, method: str, body: Fields) -> Fields:
        """The answer to `/v3/METHOD`. Raises Refused, or RegistryUnavailable after `EACH * TRIES` seconds of silence,
        or twice as long where it has to log in.

        A single member is asked twice, too: a connection that was idle may have been ended by somebody in between.
        """
        for _ in range(min(TRIES, max(2, len(self._hosts))) - 1):
            line = self._line
            try:
                return await self._known(line, method, body)
            except Refused as error:
                if not error.elsewhere:
                    raise
                self._leave(line, str(error))
            except RegistryUnavailable as error:
                self._leave(line, str(error))
        line = self._line
        try:
            return await self._known(line, method, body)
        except RegistryUnavailable as error:
            if not isinstance(error, Refused) or error.elsewhere:
                self._leave(line, str(error))
            raise

    async def watch(self, create: Fields) -> AsyncGenerator[Sequence[Fields], None]:
        """The messages of a watch, as many together as have come; the first says that it is there.

        Never ends: raises RegistryUnavailable. The header has etcd end the stream when the member loses its leader; a
        silent member is found out by `run`.
        """
        line = self._line
        where = self._hosts[line.at]
        token: str | None = None
        try:
            async with self.turns:
                token = await self._login(line)
                self._check(line)
                headers = {**_headers(token), "Grpc-Metadata-hasleader": "true"}
                async with asyncio.timeout(EACH):
                    reply = await line.session.post(
                        self._url(line, "watch"),
                        json={"create_request": create},
                        headers=headers,
                        allow_redirects=False,
                    )
            async with reply:
                if reply.status != 200:
                    async with asyncio.timeout(EACH):
                        raise refusal(str(where), reply.status, await reply.read())
                self._works(line)
                buffer = b""
                while chunk := await self._chunk(line, reply):
                    *whole, buffer = (buffer + chunk).split(b"\n")
                    yield [message(str(where), text) for text in whole if text]
        except _GONE as error:
            why = _said(error, self._tls is not None) if line is self._line else self._reason
            self._leave(line, why)
            raise RegistryUnavailable(f"etcd {where}: the watch broke: {why}") from None
        except Refused as error:
            if error.stale:
                self._forget(token)
            elif error.elsewhere:
                self._leave(line, str(error))
            raise
        except RegistryUnavailable as error:
            self._leave(line, str(error))
            raise
        raise RegistryUnavailable(f"etcd {where} has ended the watch")

    async def _chunk(self, line: _Line, reply: aiohttp.ClientResponse) -> bytes:
        """What comes next, until the member is left: the end of its connections would not end the reading."""
        async with asyncio.timeout(None) as limit:
            self._readers.add(limit)
            try:
                if line is not self._line:
                    raise TimeoutError
                return await reply.content.readany()
            finally:
                self._readers.discard(limit)

    # inside

    async def _known(self, line: _Line, method: str, body: Fields) -> Fields:
        """As a user who is known; a token that is no longer good is replaced once."""
        token = await self._login(line)
        try:
            return await self._ask(line, method, body, token)
        except Refused as error:
            if not error.stale or self._user is None:
                raise
        self._forget(token)
        return await self._ask(line, method, body, await self._login(line))

    async def _login(self, line: _Line) -> str | None:
        """Our user's token, fetched once for all who want it: etcd takes a tenth of a second to verify a password."""
        if self._user is not None and self._token is None:
            self._token = await line.logins.call(lambda: self._authenticate(line))
        return self._token

    async def _authenticate(self, line: _Line) -> str:
        """The token; empty where etcd has its users turned off, as for its own clients."""
        body = {"name": self._user, "password": self._password or ""}
        try:
            return str((await self._ask(line, "auth/authenticate", body, None)).get("token", ""))
        except Refused as error:
            if error.no_users:
                return ""
            raise

    def _forget(self, token: str | None) -> None:
        if self._token == token:
            self._token = None

    async def _ask(self, line: _Line, method: str, body: Fields, token: str | None) -> Fields:
        self._check(line)
        where = str(self._hosts[line.at])
        clock = asyncio.get_running_loop().time
        content = bytearray()
        try:
            async with (
                asyncio.timeout(EACH) as limit,
                line.session.post(
                    self._url(line, method), json=body, headers=_headers(token), allow_redirects=False
                ) as reply,
            ):
                end = clock() + WHOLE
                async for piece in reply.content.iter_any():
                    content += piece
                    limit.reschedule(min(clock() + EACH, end))
        except _GONE as error:
            raise RegistryUnavailable(f"etcd {where}: {_said(error, self._tls is not None)}") from None
        if reply.status != 200:
            raise refusal(where, reply.status, content)
        fields = answer_of(where, content)
        if "error" in fields:
            raise refusal(where, reply.status, content)
        self._works(line)
        return fields

    def _check(self, line: _Line) -> None:
        """Its connections end once a member is left, which may be while something else was waited for."""
        if line is not self._line or self._closed:
            reason = "the registry is being closed" if self._closed else self._reason
            raise RegistryUnavailable(f"etcd {self._hosts[line.at]} is not used any more: {reason}")

    def _url(self, line: _Line, method: str) -> str:
        return f"{'http' if self._tls is None else 'https'}://{self._hosts[line.at]}/v3/{method}"

    def _open(self, at: int) -> _Line:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls or True)
        return _Line(at, aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)))

    def _works(self, line: _Line) -> None:
        if line is not self._line:
            return
        self._failures = 0
        if not self._up:
            self._up, self._said = True, Reminder()
            self._emit(Connected(str(self._hosts[line.at])))

    def _leave(self, line: _Line, reason: str) -> None:
        """The next member is used from now on; what goes on with this one ends."""
        if line is not self._line or self._closed:
            return
        self._left.append(line)
        self._line = self._open((line.at + 1) % len(self._hosts))
        self._news.set()
        now = asyncio.get_running_loop().time()
        for reader in self._readers:
            reader.reschedule(now)
        self._readers.clear()  # each is ended once, even if the next member is left before it notices
        self._failures += 1
        self._reason = reason
        clock = time.monotonic()
        if self._up:
            self._up, self._since = False, clock
        if self._failures >= len(self._hosts) and self._said.due(clock):
            self._emit(Unreachable(", ".join(map(str, self._hosts)), reason, clock - self._since))


async def _end(line: _Line) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(EACH):
            await line.session.close()


def _headers(token: str | None) -> dict[str, str]:
    return {"Authorization": token} if token else {}


def _said(error: Exception, secure: bool) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {EACH:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = str(getattr(error.certificate_error, "verify_message", "") or error.certificate_error).rstrip(".")
        return f"its certificate is refused: {why}: name its authority in ca_file, and the host as the certificate does"
    if isinstance(error, aiohttp.ClientConnectorError):
        number, text = error.os_error.errno or 0, error.os_error.strerror or str(error.os_error)
        return f"cannot connect: {os.strerror(number) if number > 0 else text or 'the connection was ended'}" + (
            ": does it speak TLS on this port?"
            if secure and not isinstance(error, aiohttp.ClientConnectorDNSError)
            else ""
        )
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return f"it ended the connection without an answer{'' if secure else ': if it wants TLS, write etcds://'}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection broke in the middle of an answer"
    return str(error) or type(error).__name__
