"""Up when a PostgreSQL server takes up a session; with a username, when it also answers a query.

The first says more than a bare connection or a request for TLS, which a server that is still recovering, or has no
connection left, answers as well.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.nerve.checks._tls import context_of
from dockstack.plugins import extra
from dockstack.settings.nerve import PostgresqlCheck

if TYPE_CHECKING:
    import ssl

_HANDSHAKE_USER = "haproxy_check"
_HANDSHAKE_DATABASE = "postgres"  # every cluster has it
_POLITE = 0.8  # of the timeout: after it a server that has taken up the session is up, however slow the rest is

# https://www.postgresql.org/docs/current/protocol-message-formats.html
_TLS_REQUEST = struct.pack("!II", 8, 80877103)
_TERMINATE = b"X\0\0\0\4"
_LONGEST = 30000  # bytes of a message; a longer error is one of the old form, text without a length
_AUTHENTICATION, _ERROR, _READY = b"R", b"E", b"Z"
_DONE = struct.pack("!I", 0)
# SQL states of a refusal that only concerns the check's own login: invalid authorization, no such database.
_REFUSED_LOGIN = ("28", "3D")


def build(settings: PostgresqlCheck, target: Address) -> Check:
    """The handshake check, or with a username the check that logs in and asks.

    Raises ValueError without the client that the latter needs, OSError when a file of `tls` cannot be used.
    """
    context = context_of(settings.tls)
    if settings.username is not None:
        with extra("postgresql", "the postgresql check with a username"):
            import asyncpg  # noqa: F401 - at the start, where there is time for it

    async def began(target: Address) -> None:
        await handshake(target, settings.database or _HANDSHAKE_DATABASE, context, settings.timeout * _POLITE)

    return began if settings.username is None else _Asking(settings, settings.username, context)


class _Asking:
    """The check that logs in.

    asyncpg never comes back from an answer that begins with a zero byte, and holds up the whole program: until a
    handshake has found PostgreSQL, and after each failure, something else may be listening on the port.
    """

    __slots__ = ("_context", "_known", "_settings", "_user")

    def __init__(self, settings: PostgresqlCheck, user: str, context: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._user = user
        self._context = context
        self._known = False

    async def __call__(self, target: Address) -> None:
        if not self._known:
            database = self._settings.database or self._user
            await handshake(target, database, self._context, self._settings.timeout * _POLITE, self._user)
            self._known = True
        try:
            await ask(self._settings, target, self._context)
        except (OSError, Unhealthy):
            self._known = False
            raise


async def handshake(
    target: Address,
    database: str,
    context: ssl.SSLContext | None,
    patience: float,
    user: str = _HANDSHAKE_USER,
) -> None:
    """Begins a session, as `haproxy_check` as HAProxy's own check does; the first answer decides.

    Where the server asks for a password the check leaves: that is neither an error nor in the server's log, as libpq
    does it whenever it has no password. Where none is asked for, the session is completed and ended within `patience`
    seconds of the start. A refused login is an answer as well, and the server is up; it logs that as FATAL: where no
    password is asked for the role should exist, and pg_hba.conf should let the host in.
    Raises Unhealthy with the server's own words (`the database system is starting up`, `too many clients`), OSError.
    """
    end = asyncio.get_running_loop().time() + patience
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        try:
            if context is not None:
                await _secure(reader, writer, context, target.host)
            writer.write(_startup(user, database))
            kind, body = await _message(reader)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise Unhealthy("the server closed the connection without an answer") from error
        judge(kind, body)
        try:
            async with asyncio.timeout_at(end):
                await _leave(reader, writer, kind, body)
        except (OSError, asyncio.IncompleteReadError, Unhealthy):  # or TimeoutError, which is an OSError
            return  # the first answer said what there was to know
    finally:
        writer.transport.abort()


def judge(kind: bytes, body: bytes) -> None:
    """Returns when the server takes up the session, or refuses but this login; raises Unhealthy with what it said."""
    if kind == _ERROR:
        state, text = error_of(body)
        if not state.startswith(_REFUSED_LOGIN):
            raise Unhealthy(f"the server says: {text} (SQL state {state})")
    elif kind != _AUTHENTICATION:
        raise Unhealthy(f"this is no PostgreSQL server: its first message is {kind!r}")


def error_of(body: bytes) -> tuple[str, str]:
    """The SQL state and the words of an error: fields, each a letter and its text up to a zero byte."""
    fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0") if field}
    return fields.get(b"C", ""), fields.get(b"M", "")


async def _secure(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext, host: str
) -> None:
    writer.write(_TLS_REQUEST)
    if await reader.readexactly(1) != b"S":
        raise Unhealthy("the server does not offer TLS")
    await writer.start_tls(context, server_hostname=host if context.check_hostname else None)


def _startup(user: str, database: str) -> bytes:
    words = ("user", user, "database", database)
    content = struct.pack("!I", 3 << 16) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    return struct.pack("!I", len(content) + 4) + content


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    header = await reader.readexactly(5)
    kind, size = header[:1], int.from_bytes(header[1:])
    if 4 <= size <= _LONGEST:
        return kind, await reader.readexactly(size - 4)
    if kind == _ERROR:  # it could not even begin a process for the session
        text = header[1:] + await reader.readuntil(b"\0")
        raise Unhealthy(f"the server says: {text.rstrip(bytes(1)).decode(errors='replace').strip()}")
    raise Unhealthy(f"this is no PostgreSQL server: it begins {header!r}")


async def _leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: bytes, body: bytes) -> None:
    if kind == _AUTHENTICATION and body[:4] == _DONE:
        while (await _message(reader))[0] not in (_READY, _ERROR):
            pass
        writer.write(_TERMINATE)
        await reader.read(1)  # the server closes first: then it has read the farewell
    writer.close()
    await writer.wait_closed()


async def ask(settings: PostgresqlCheck, target: Address, context: ssl.SSLContext | None) -> None:
    """Logs in, sends the query and leaves; raises Unhealthy with the server's own words, OSError."""
    import asyncpg

    loop = _Loop(asyncio.get_running_loop())
    connection = None
    try:
        connection = await asyncpg.connect(
            loop=loop,
            host=target.host,
            port=target.port,
            user=settings.username,
            password=settings.password,
            database=settings.database or settings.username,
            ssl=context or False,
            statement_cache_size=0,
        )
        await connection.execute(settings.query)
        await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        state = getattr(error, "sqlstate", None)
        raise Unhealthy(f"{error}" + (f" (SQL state {state})" if state else "")) from error
    finally:
        if connection is not None and not connection.is_closed():
            connection.terminate()
        loop.abort()


class _Loop:
    """The event loop for one conversation of asyncpg's, whose connection ends at once when the check is over.

    asyncpg would wait for the farewell of a server that has fallen silent, over TLS for 30 s.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transports: list[asyncio.Transport] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, *args: Any, **options: Any) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        transport, protocol = await self._loop.create_connection(*args, **options)
        self._transports.append(transport)
        return transport, protocol

    def abort(self) -> None:
        for transport in self._transports:
            transport.abort()
