"""Calls and streams to etcd's JSON gateway, over whichever member answers.

A member that fails or falls silent is left for the next one, with all connections to it. What was asked may have been
done even so: callers ask only for what can be done twice.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit
from dockstack.registry import Locator
from dockstack.registry.etcd.events import Connected, Unreachable

EACH = 1.5
"""Seconds that one member has for an answer."""

TRIES = 3
"""Members that one call asks, one after the other."""

PROBE = 2.0
"""Seconds between two questions whether the member in use is alive and knows its leader."""

_GONE = (aiohttp.ClientError, OSError, TimeoutError)

# Codes of gRPC: what they mean lies with the member, and another one may know better.
_DEADLINE, _INTERNAL, _UNAVAILABLE, _UNAUTHENTICATED = 4, 13, 14, 16
_ELSEWHERE = frozenset({1, _DEADLINE, _INTERNAL, _UNAVAILABLE})

NOT_FOUND = 5

Fields = Mapping[str, Any]


class Refused(RegistryUnavailable):
    """etcd's answer was no; `code` is that of gRPC."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"etcd: {message}")
        self.code = code


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A member and the connections to it."""

    at: int
    session: aiohttp.ClientSession


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
        self._told = False
        self._failures = 0
        self.revision = 0
        """That of the store when a member last spoke of it."""

    @property
    def state(self) -> str:
        """One line for the status page."""
        if self._up:
            return f"connected to {self._hosts[self._line.at]}"
        return f"not connected for {time.monotonic() - self._since:.0f} s: {self._reason}"

    async def run(self) -> None:
        """For ever: ends connections that were left, and leaves a member that is silent or has no leader."""
        while True:
            for left in self._left:
                await left.session.close()
            self._left.clear()
            self._news.clear()
            try:
                async with asyncio.timeout(PROBE):
                    await self._news.wait()
                    continue
            except TimeoutError:
                pass
            line = self._line
            try:
                status = await self._ask(line, "maintenance/status", {})
                self.revision = int(status.get("header", {}).get("revision", 0))
                if not int(status.get("leader", 0)):
                    self._leave(line, "the member has no leader")
            except Refused as error:
                if error.code in _ELSEWHERE:
                    self._leave(line, str(error))
            except RegistryUnavailable as error:
                self._leave(line, str(error))

    def renew(self, reason: str) -> None:
        """Leaves the member, with all connections to it."""
        self._leave(self._line, reason)

    async def close(self) -> None:
        """Ends all connections."""
        for one in (self._line, *self._left):
            await one.session.close()

    async def call(self, method: str, body: Fields) -> Fields:
        """The answer to `/v3/METHOD`. Raises Refused, or RegistryUnavailable within `EACH * TRIES` seconds.

        A single member is asked twice, too: a connection that was idle may have been ended by somebody in between.
        """
        for _ in range(min(TRIES, max(2, len(self._hosts))) - 1):
            line = self._line
            try:
                return await self._known(line, method, body)
            except Refused as error:
                if error.code not in _ELSEWHERE:
                    raise
                self._leave(line, str(error))
            except RegistryUnavailable as error:
                self._leave(line, str(error))
        line = self._line
        try:
            return await self._known(line, method, body)
        except RegistryUnavailable as error:
            if not isinstance(error, Refused) or error.code in _ELSEWHERE:
                self._leave(line, str(error))
            raise

    async def watch(self, create: Fields) -> AsyncGenerator[Fields, None]:
        """The messages of a watch; the first says that it is there. Never ends: raises RegistryUnavailable.

        The header has etcd end the stream when the member loses its leader; a silent member is found out by `run`.
        """
        line = self._line
        await self._login(line)
        headers = {**self._headers(), "Grpc-Metadata-hasleader": "true"}
        try:
            async with asyncio.timeout(EACH):
                reply = await line.session.post(
                    self._url(line, "watch"), json={"create_request": create}, headers=headers
                )
            async with reply:
                if reply.status != 200:
                    raise _refusal(reply.status, await reply.read())
                self._works(line)
                buffer = b""
                while chunk := await self._chunk(line, reply):
                    *whole, buffer = (buffer + chunk).split(b"\n")
                    for text in whole:
                        yield self._message(text)
        except _GONE as error:
            self._leave(line, _said(error))
            raise RegistryUnavailable(f"etcd {self._hosts[line.at]}: the watch broke: {_said(error)}") from None
        except Refused as error:
            if error.code == _UNAUTHENTICATED:
                self._token = None
            elif error.code in _ELSEWHERE:
                self._leave(line, str(error))
            raise
        raise RegistryUnavailable(f"etcd {self._hosts[line.at]} has ended the watch")

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

    def _message(self, text: bytes) -> Fields:
        fields = json.loads(text)
        if "error" in fields:
            raise Refused(int(fields["error"].get("grpc_code", 0)), str(fields["error"].get("message", text[:200])))
        result: Fields = fields.get("result", {})
        return result

    # inside

    async def _known(self, line: _Line, method: str, body: Fields) -> Fields:
        """As a user who is known; a token that has run out is replaced once."""
        await self._login(line)
        try:
            return await self._ask(line, method, body)
        except Refused as error:
            if error.code != _UNAUTHENTICATED or self._user is None:
                raise
            self._token = None
        await self._login(line)
        return await self._ask(line, method, body)

    async def _login(self, line: _Line) -> None:
        if self._user is None or self._token is not None:
            return
        answer = await self._ask(line, "auth/authenticate", {"name": self._user, "password": self._password or ""})
        self._token = str(answer.get("token", ""))

    async def _ask(self, line: _Line, method: str, body: Fields) -> Fields:
        try:
            async with (
                asyncio.timeout(EACH),
                line.session.post(self._url(line, method), json=body, headers=self._headers()) as reply,
            ):
                content = await reply.read()
        except _GONE as error:
            raise RegistryUnavailable(f"etcd {self._hosts[line.at]}: {_said(error)}") from None
        if reply.status != 200:
            raise _refusal(reply.status, content)
        self._works(line)
        try:
            fields: Fields = json.loads(content)
        except ValueError:
            raise RegistryUnavailable(f"etcd {self._hosts[line.at]} did not answer with JSON") from None
        return fields

    def _headers(self) -> dict[str, str]:
        return {} if self._token is None else {"Authorization": self._token}

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
            self._up, self._told = True, False
            self._emit(Connected(str(self._hosts[line.at])))

    def _leave(self, line: _Line, reason: str) -> None:
        """The next member is used from now on; what goes on with this one ends."""
        if line is not self._line:
            return
        self._left.append(line)
        self._line = self._open((line.at + 1) % len(self._hosts))
        self._news.set()
        now = asyncio.get_running_loop().time()
        for reader in self._readers:
            reader.reschedule(now)
        self._failures += 1
        self._reason = reason
        if self._up:
            self._up, self._since = False, time.monotonic()
        if not self._told and self._failures >= len(self._hosts):
            self._told = True
            self._emit(Unreachable(", ".join(map(str, self._hosts)), reason))


def _refusal(status: int, content: bytes) -> Refused:
    try:
        fields = json.loads(content)
        return Refused(int(fields.get("code", 0)), str(fields.get("message") or fields.get("error") or fields))
    except (ValueError, AttributeError):
        return Refused(_UNAVAILABLE, f"HTTP status {status}: {content[:200].decode(errors='replace')}")


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {EACH:g} s"
    return str(error) or type(error).__name__
