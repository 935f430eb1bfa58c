"""The MySQL check: packets by tables, servers that are none, and a real MariaDB."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomysql
import pytest

from dockstack.model import Address
from dockstack.nerve.checks import Unhealthy
from dockstack.nerve.checks.mysql import build, error_text, judge_greeting
from dockstack.nerve.judge import Rule
from dockstack.nerve.probe import Outcome, Probe, ask
from dockstack.settings.nerve import MysqlCheck
from tests.servers.mariadb import MariaDBServer
from tests.waiting import eventually

GREETING = b"\x0a8.0.40\x00" + b"\x01\x00\x00\x00" + b"saltsalt\x00" + b"\xff" * 20 + b"\x00"


def settings(**keys: Any) -> MysqlCheck:
    return MysqlCheck.model_validate({"type": "mysql", "timeout": 5, **keys})


async def outcome(target: Address, check: MysqlCheck) -> Outcome:
    return await ask(Probe("mysql", build(check, target), target, check.deadline, Rule()))


def packet(payload: bytes, number: int = 0) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\xff\x10\x04Too many connections", "the server says: Too many connections (error 1040)"),
        (b"\xff\x13\x04#08S01Bad handshake", "the server says: Bad handshake (error 1043)"),
        (b"\xff", "the server says:  (error 0)"),
    ],
)
def test_an_error_packet_is_the_servers_own_words(payload: bytes, text: str) -> None:
    assert error_text(payload) == text
    with pytest.raises(Unhealthy) as raised:
        judge_greeting(payload)
    assert str(raised.value) == text


def test_a_greeting_is_up_and_another_protocol_is_not() -> None:
    judge_greeting(GREETING)
    with pytest.raises(Unhealthy, match="protocol 9"):
        judge_greeting(b"\x093.20\x00")


@asynccontextmanager
async def saying(*pieces: bytes, close: bool = True) -> AsyncIterator[tuple[Address, list[bytes]]]:
    """A server that says the pieces, the second and further ones each after it has heard something."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for place, piece in enumerate(pieces):
                if place:
                    heard.append(await reader.read(4096))
                writer.write(piece)
                await writer.drain()
            if not close:
                while block := await reader.read(4096):
                    heard.append(block)
                heard.append(b"")
        except ConnectionError:
            return
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield Address("127.0.0.1", listener.sockets[0].getsockname()[1]), heard


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (packet(b"\xff\x69\x04Host 'h' is blocked"), "the server says: Host 'h' is blocked (error 1129)"),
        (b"", "the server closed the connection without a greeting"),
        (packet(GREETING)[:20], "the server closed the connection without a greeting"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "this is no MySQL server: it begins b'SSH-'"),
        (b"\x00\x00\x00\x00", "this is no MySQL server: it begins b'\\x00\\x00\\x00\\x00'"),
    ],
)
async def test_what_is_no_greeting_is_down(said: bytes, reason: str) -> None:
    async with saying(said) as (target, _):
        assert await outcome(target, settings()) == Outcome("mysql", False, reason)


async def test_a_server_that_never_greets_is_down_in_time_and_no_connection_stays() -> None:
    for check in (settings(timeout=0.2), settings(timeout=0.2, username="u")):
        async with saying(close=False) as (target, heard):
            assert (await outcome(target, check)).reason == f"no answer from {target} within 0.2 s"
            await eventually(lambda: heard == [b""], "the end of the connection")


async def test_no_connection_stays_while_the_error_is_kept() -> None:
    """An exception holds the frames, and so everything in them, as long as somebody looks at it."""
    blocked = packet(b"\xff\x69\x04Host 'h' is blocked")
    for check in (settings(), settings(username="u")):
        async with saying(blocked, close=False) as (target, heard):
            with pytest.raises(Unhealthy, match="is blocked") as kept:
                await build(check, target)(target)
            await eventually(lambda: heard == [b""], "the end of the connection")
            assert kept.tb is not None


async def test_a_cancelled_login_leaves_no_connection_to_the_garbage_collector() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        gc.collect()
        told.clear()  # that was other tests' garbage
        async with saying(close=False) as (target, heard):
            assert not (await outcome(target, settings(timeout=0.1, username="u"))).healthy
            await eventually(lambda: heard == [b""], "the end of the connection")
        gc.collect()
        assert [one for one in told if issubclass(one.category, ResourceWarning)] == []


async def test_the_handshake_is_completed_and_ended() -> None:
    ok = packet(b"\x00\x00\x00\x02\x00\x00\x00", 2)
    async with saying(packet(GREETING), ok, b"") as (target, heard):
        assert await outcome(target, settings()) == Outcome("mysql", True)
        await eventually(lambda: len(heard) == 2, "the quit")
    login, quit_ = heard
    assert login[3] == 1
    assert struct.unpack_from("<I", login, 4)[0] & 0x200
    assert login[4 + 32 :].startswith(b"haproxy_check\x00\x00")
    assert quit_ == packet(b"\x01")


async def test_another_plug_in_gets_an_empty_password() -> None:
    switch = packet(b"\xfecaching_sha2_password\x00saltsalt\x00", 2)
    refused = packet(b"\xff\x15\x04#28000Access denied", 4)
    async with saying(packet(GREETING), switch, refused) as (target, heard):
        assert (await outcome(target, settings())).healthy
    assert heard[1] == packet(b"", 3)


@pytest.mark.parametrize("after", [b"", packet(b"\xff\x13\x04#08S01Bad handshake", 2), b"\xff\xff\xff\x00"])
async def test_what_comes_after_the_greeting_does_not_matter(after: bytes) -> None:
    async with saying(packet(GREETING), after) as (target, _):
        assert (await outcome(target, settings())).healthy


async def test_a_server_that_greets_and_then_hangs_is_up() -> None:
    async with saying(packet(GREETING), close=False) as (target, _):
        assert (await outcome(target, settings(timeout=0.3))).healthy


# A real server.


def here(server: MariaDBServer) -> Address:
    return Address("127.0.0.1", server.port)


def counted(server: MariaDBServer, name: str) -> int:
    return int(server.run(f"SHOW GLOBAL STATUS LIKE '{name}'").split()[1])


async def test_a_real_server_is_up_and_counts_no_aborted_connection(mariadb: MariaDBServer) -> None:
    before = counted(mariadb, "Aborted_connects")
    for _ in range(3):
        assert await outcome(here(mariadb), settings()) == Outcome("mysql", True)
    assert counted(mariadb, "Aborted_connects") == before
    with socket.create_connection(("127.0.0.1", mariadb.port)) as bare:
        bare.recv(4096)
    await eventually(lambda: counted(mariadb, "Aborted_connects") == before + 1, "the count of a bare connection")


async def test_without_the_user_it_is_a_refused_login_and_no_broken_handshake(mariadb: MariaDBServer) -> None:
    """The server counts broken handshakes (`preauth`) towards max_connect_errors, refused logins it does not."""
    mariadb.run("RENAME USER 'haproxy_check'@'%' TO 'elsewhere'@'%'")
    try:
        before = counted(mariadb, "Aborted_connects_preauth")
        assert await outcome(here(mariadb), settings()) == Outcome("mysql", True)
        assert counted(mariadb, "Aborted_connects_preauth") == before
    finally:
        mariadb.run("RENAME USER 'elsewhere'@'%' TO 'haproxy_check'@'%'")


async def test_a_login_asks_and_quits(mariadb: MariaDBServer) -> None:
    mariadb.create_user("nerve", "s3cret")
    aborted = counted(mariadb, "Aborted_clients"), counted(mariadb, "Aborted_connects")
    logins = counted(mariadb, "Connections")
    assert await outcome(here(mariadb), settings(username="nerve", password="s3cret")) == Outcome("mysql", True)
    assert counted(mariadb, "Connections") > logins
    await abrupt(here(mariadb))
    await eventually(lambda: counted(mariadb, "Aborted_clients") > aborted[0], "the count of an abrupt end")
    assert (counted(mariadb, "Aborted_clients"), counted(mariadb, "Aborted_connects")) == (aborted[0] + 1, aborted[1])


async def abrupt(target: Address) -> None:
    """A login that ends without a quit, which the server counts."""
    connection = await aiomysql.connect(host=target.host, port=target.port, user="nerve", password="s3cret")
    connection.close()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"password": "wrong"}, "Access denied for user 'nerve'"),
        ({"database": "nowhere"}, "Access denied for user 'nerve'@'%' to database 'nowhere' (error 1044)"),
        ({"query": "SELECT * FROM mysql.user"}, "SELECT command denied"),
        ({"query": "SELEKT"}, "You have an error in your SQL syntax"),
    ],
)
async def test_a_login_or_query_that_fails_is_down(mariadb: MariaDBServer, keys: dict[str, Any], words: str) -> None:
    mariadb.create_user("nerve", "s3cret")
    seen = await outcome(here(mariadb), settings(**{"username": "nerve", "password": "s3cret", **keys}))
    assert not seen.healthy
    assert words in seen.reason
    assert seen.bug is None


async def test_a_query_that_takes_too_long_is_down(mariadb: MariaDBServer) -> None:
    check = settings(username="haproxy_check", query="SELECT SLEEP(3)", timeout=0.5)
    assert (await outcome(here(mariadb), check)).reason == f"no answer from {here(mariadb)} within 0.5 s"


async def test_no_server_is_down_with_and_without_a_login() -> None:
    async with saying() as (target, _):
        pass
    assert (await outcome(target, settings())).reason == f"{target}: Connection refused"
    assert "Can't connect to MySQL server" in (await outcome(target, settings(username="u"))).reason
