"""Up when a MySQL or MariaDB server greets; with a username, when it also answers a query.

A connection that ends before the client's part of the handshake is an error of that client's host: after
`max_connect_errors` of them in a row the server refuses everybody on that host (error 1129). On MariaDB 10.11 a bare
connection counts, a greeting that was read and closed counts, and a COM_QUIT in place of the handshake counts as well;
a complete handshake never counts, not even when the login is refused. So the check without a username completes it, as
`haproxy_check` without a password: where that user exists, because HAProxy checks with it, the server logs nothing;
elsewhere it logs a refused login, as it would log the aborted connection. (A host that connects from 127.0.0.1 or whose
name the server does not look up is never counted.)
"""

from __future__ import annotations

import asyncio
import re
import struct

from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.settings.nerve import MysqlCheck

_HANDSHAKE_USER = "haproxy_check"
_LONGEST_GREETING = 4096  # bytes; real ones have about 100
_POLITE = 0.8  # of the timeout: after it a server that has greeted is up, however slow the rest is

# https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html and …_connection_phase.html
_OK, _AUTH_SWITCH, _ERROR = 0x00, 0xFE, 0xFF
_QUIT = b"\x01"
_CAPABILITIES = 0x1 | 0x200 | 0x8000 | 0x80000  # long password, protocol 4.1, secure connection, plug-in auth
_UTF8MB4 = 45
_NATIVE_PASSWORD = b"mysql_native_password"


def build(settings: MysqlCheck, target: Address) -> Check:
    """The handshake check, or with a username the check that logs in and asks."""
    if settings.username is not None:
        import aiomysql  # noqa: F401 - at the start, where there is time for it

    async def greeted(target: Address) -> None:
        await handshake(target, settings.timeout * _POLITE)

    async def asked(target: Address) -> None:
        await ask(settings, target)

    return greeted if settings.username is None else asked


async def handshake(target: Address, patience: float) -> None:
    """Reads the greeting, which decides, and ends the handshake within `patience` seconds of the start.

    Raises Unhealthy with the server's own words (`Too many connections`, `Host … is blocked …`), OSError.
    """
    end = asyncio.get_running_loop().time() + patience
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        try:
            sequence, greeting = await _packet(reader, _LONGEST_GREETING)
        except asyncio.IncompleteReadError as error:
            raise Unhealthy("the server closed the connection without a greeting") from error
        judge_greeting(greeting)
        try:
            async with asyncio.timeout_at(end):
                await _end_handshake(reader, writer, sequence)
        except (OSError, asyncio.IncompleteReadError, Unhealthy):  # or TimeoutError, which is an OSError
            return  # the greeting said what there was to know
    finally:
        writer.transport.abort()


def judge_greeting(packet: bytes) -> None:
    """Returns when a server of protocol 10 said hello; raises Unhealthy with what it said instead."""
    if packet[0] == _ERROR:
        raise Unhealthy(error_text(packet))
    if packet[0] != 10:
        raise Unhealthy(f"this is no MySQL server: its first packet is of protocol {packet[0]}, not 10")


def error_text(packet: bytes) -> str:
    """The server's words in an error packet: 0xFF, a code of two bytes, perhaps `#` and an SQL state, the text."""
    (code,) = struct.unpack_from("<H", packet.ljust(3, b"\0"), 1)
    text = re.sub(rb"\A#.{5}", b"", packet[3:], flags=re.DOTALL).decode(errors="replace")
    return f"the server says: {text} (error {code})"


async def _end_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sequence: int) -> None:
    login = struct.pack("<IIB23x", _CAPABILITIES, 1 << 24, _UTF8MB4) + _HANDSHAKE_USER.encode() + b"\0"
    answer = login + b"\0" + _NATIVE_PASSWORD + b"\0"  # \0: a password of no bytes
    for _ in range(3):
        writer.write(_framed(sequence + 1, answer))
        sequence, reply = await _packet(reader, _LONGEST_GREETING)
        if reply[0] == _OK:
            writer.write(_framed(0, _QUIT))
            await reader.read(1)  # the server closes first: then it has read the quit
        if reply[0] != _AUTH_SWITCH:
            return
        answer = b""  # the same password, as another plug-in wants it


def _framed(sequence: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([sequence & 0xFF]) + payload


async def _packet(reader: asyncio.StreamReader, longest: int) -> tuple[int, bytes]:
    header = await reader.readexactly(4)
    size = int.from_bytes(header[:3], "little")
    if not 1 <= size <= longest:
        raise Unhealthy(f"this is no MySQL server: it begins {header!r}")
    return header[3], await reader.readexactly(size)


async def ask(settings: MysqlCheck, target: Address) -> None:
    """Logs in, sends the query and quits; raises Unhealthy with the server's own words."""
    import aiomysql

    connection = aiomysql.Connection(
        host=target.host,
        port=target.port,
        user=settings.username,
        password=settings.password,
        db=settings.database,
        autocommit=None,  # as the server has it: no statement of ours
    )
    try:
        # Not aiomysql.connect(): cancelled by the deadline it leaves its socket open, and nobody could close it.
        await connection._connect()
        async with connection.cursor() as cursor:
            await cursor.execute(settings.query)
        await connection.ensure_closed()
    except aiomysql.MySQLError as error:
        code, text = (*error.args, "", "")[:2]
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise Unhealthy(f"{text or code}{cause}" + (f" (error {code})" if text else "")) from error
    finally:
        connection.close()
