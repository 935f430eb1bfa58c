"""The PostgreSQL check: messages by tables, servers that are none, and real servers, whose log is read."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import struct
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dockstack.nerve.checks import Unhealthy
from dockstack.nerve.checks.postgresql import build, error_of, judge
from dockstack.nerve.judge import Rule
from dockstack.nerve.probe import Outcome, Probe, ask
from dockstack.settings.nerve import PostgresqlCheck
from tests.nerve.checks.asking import frozen, here, outcome, saying, silent
from tests.servers.certificate import Certificate, certificate
from tests.servers.postgresql import PASSWORD, SUPERUSER, PostgresqlServer
from tests.servers.proxy import TcpProxy
from tests.waiting import eventually

UP = Outcome("it", True)
LOGIN = {"username": SUPERUSER, "password": PASSWORD, "database": "postgres"}


def settings(**keys: Any) -> PostgresqlCheck:
    return PostgresqlCheck.model_validate({"type": "postgresql", "timeout": 5, **keys})


async def reason(port: int, **keys: Any) -> str:
    seen = await outcome(build, settings(**keys), port)
    assert (seen.healthy, seen.bug) == (False, None)
    return seen.reason


def refusal(state: str, text: str = "no") -> bytes:
    return b"SFATAL\0VFATAL\0C" + state.encode() + b"\0M" + text.encode() + b"\0Fpostmaster.c\0\0"


def packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def test_the_words_of_an_error() -> None:
    assert error_of(refusal("57P03", "the database system is starting up")) == (
        "57P03",
        "the database system is starting up",
    )
    assert error_of(b"\0") == ("", "")


@pytest.mark.parametrize("state", ["28000", "28P01", "3D000"])
def test_a_refused_login_is_an_answer(state: str) -> None:
    judge(b"E", refusal(state))


@pytest.mark.parametrize("state", ["57P03", "53300", "57P01", "08P01", "XX000", ""])
def test_another_error_is_down(state: str) -> None:
    with pytest.raises(Unhealthy) as raised:
        judge(b"E", refusal(state, "the words"))
    assert str(raised.value) == f"the server says: the words (SQL state {state})"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (packed(b"E", refusal("57P03", "starting up")), "the server says: starting up (SQL state 57P03)"),
        (b"Ecould not fork new process for connection: no\n\0", "the server says: could not fork new process"),
        (b"Ecould not", "the server closed the connection without an answer"),
        (packed(b"R", b"1234")[:7], "the server closed the connection without an answer"),
        (b"", "the server closed the connection without an answer"),
        (packed(b"K", b"12345678"), "this is no PostgreSQL server: its first message is b'K'"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "this is no PostgreSQL server: it begins b'HTTP/'"),
    ],
)
async def test_what_is_down(said: bytes, words: str) -> None:
    async with saying(said) as port:
        assert (await reason(port)).startswith(words)


async def test_what_comes_after_the_first_answer_does_not_matter() -> None:
    for after in (b"", b"Z", packed(b"E", refusal("57P01")), b"HTTP/1.1"):
        async with saying(packed(b"R", b"\0\0\0\0") + after) as port:
            assert await outcome(build, settings(), port) == UP


@pytest.mark.parametrize("keys", [{}, LOGIN, {"tls": {"verify": False}}, {**LOGIN, "tls": {"verify": False}}])
async def test_a_silent_server_is_down_in_time(keys: dict[str, Any]) -> None:
    async with silent() as port:
        assert await reason(port, timeout=0.2, **keys) == f"no answer from {here(port)} within 0.2 s"


@pytest.mark.parametrize("said", [b"\0" * 5, b"\0" * 70_000, b"J\0\0\0\n5.5.5-10.11.6-MariaDB\0"])
async def test_whatever_is_no_postgresql_is_down_and_holds_nobody_up(said: bytes) -> None:
    async with saying(said) as port:
        assert (await reason(port, **LOGIN)) != ""


async def test_a_login_without_a_connection_is_followed_by_a_handshake() -> None:
    """Another program may be listening by then."""
    check = build(settings(**LOGIN), here(1))
    async with saying(packed(b"R", b"\0\0\0\5salt")) as port:  # takes up the session, and ends it at the password
        with pytest.raises(Unhealthy, match="closed"):
            await check(here(port))
    async with saying(b"\0" * 5) as port:
        with pytest.raises(Unhealthy, match="no PostgreSQL"):
            await check(here(port))


# Real servers.


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresqlServer]:
    """Who stops it starts it again."""
    with PostgresqlServer(tmp_path_factory.mktemp("postgresql"), "log_connections=off") as server:
        server.run("CREATE ROLE nerve LOGIN PASSWORD 'hush'")
        yield server


async def test_a_server_is_up_and_its_log_stays_empty(postgresql: PostgresqlServer) -> None:
    before = len(postgresql.log)
    for _ in range(5):
        assert await outcome(build, settings(), postgresql.port) == UP
        assert await outcome(build, settings(**LOGIN), postgresql.port) == UP
    assert postgresql.run("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'") == "1"
    assert postgresql.log[before:] == []


async def test_a_login_that_ends_without_a_farewell_would_be_logged(postgresql: PostgresqlServer) -> None:
    """What the empty log above is worth."""
    before = len(postgresql.log)
    wrong = {**LOGIN, "password": "wrong"}
    assert "password authentication failed" in await reason(postgresql.port, **wrong)
    assert any("FATAL" in line for line in postgresql.log[before:])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"password": "wrong"}, 'password authentication failed for user "nerve" (SQL state 28P01)'),
        ({"password": ""}, "SQL state 28P01"),
        ({"username": "nobody"}, 'password authentication failed for user "nobody" (SQL state 28P01)'),
        ({"database": "nowhere"}, 'database "nowhere" does not exist (SQL state 3D000)'),
        ({"database": None}, 'database "nerve" does not exist (SQL state 3D000)'),
        ({"query": "SELEKT 1"}, 'syntax error at or near "SELEKT" (SQL state 42601)'),
        ({"query": "SELECT * FROM pg_authid"}, "permission denied for table pg_authid (SQL state 42501)"),
        ({"tls": {"verify": False}}, "does not offer TLS"),
    ],
)
async def test_a_login_or_query_that_fails_is_down(
    postgresql: PostgresqlServer, keys: dict[str, Any], words: str
) -> None:
    login = {"username": "nerve", "password": "hush", "database": "postgres"}
    assert await outcome(build, settings(**login), postgresql.port) == UP
    assert words in await reason(postgresql.port, **{**login, **keys})


async def test_a_query_that_takes_too_long_is_down(postgresql: PostgresqlServer) -> None:
    late = f"no answer from {here(postgresql.port)} within 0.3 s"
    assert await reason(postgresql.port, **LOGIN, query="SELECT pg_sleep(5)", timeout=0.3) == late


async def test_a_server_without_tls_is_down_where_it_is_wanted(postgresql: PostgresqlServer) -> None:
    assert await reason(postgresql.port, tls=True) == "the server does not offer TLS"


async def session(server: PostgresqlServer) -> Any:
    return await asyncpg.connect(
        host="127.0.0.1", port=server.port, user=SUPERUSER, password=PASSWORD, database="postgres", ssl=False
    )


async def test_a_server_without_a_free_connection_is_down(postgresql: PostgresqlServer) -> None:
    async with AsyncExitStack() as stack:
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            while True:
                stack.push_async_callback((await session(postgresql)).close)
        full = "the server says: sorry, too many clients already (SQL state 53300)"
        assert await reason(postgresql.port) == full
        assert await reason(postgresql.port, **LOGIN) == full


async def test_a_session_that_stalls_is_down_in_time(postgresql: PostgresqlServer) -> None:
    async with TcpProxy(postgresql.port) as proxy:
        assert await outcome(build, settings(**LOGIN), proxy.port) == UP
        proxy.silence()
        for keys in ({}, LOGIN):
            assert await reason(proxy.port, timeout=0.2, **keys) == f"no answer from {here(proxy.port)} within 0.2 s"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def open_to_some(tmp_path_factory: pytest.TempPathFactory, pem: Certificate) -> Iterator[PostgresqlServer]:
    """With TLS; lets `haproxy_check` into `postgres` without a password, the superuser with one, nobody else."""
    hba = (
        f"host all {SUPERUSER} 127.0.0.1/32 scram-sha-256",
        "host postgres haproxy_check 127.0.0.1/32 trust",
        "host template1 haproxy_check 127.0.0.1/32 scram-sha-256",
    )
    with PostgresqlServer(tmp_path_factory.mktemp("open"), hba=hba, tls=pem) as server:
        server.run("CREATE ROLE haproxy_check LOGIN")
        yield server


async def test_over_tls_and_without_a_password_the_log_stays_empty_too(open_to_some: PostgresqlServer) -> None:
    before = len(open_to_some.log)
    with_password = {"database": "template1"}
    for keys in ({}, {"tls": {"verify": False}}, with_password, {**with_password, "tls": {"verify": False}}):
        for _ in range(3):
            assert await outcome(build, settings(**keys), open_to_some.port) == UP
    assert open_to_some.run("SELECT count(*) FROM pg_stat_activity WHERE usename = 'haproxy_check'") == "0"
    assert open_to_some.log[before:] == []


async def test_a_role_that_is_not_there_is_an_answer_that_the_server_logs(open_to_some: PostgresqlServer) -> None:
    open_to_some.run("ALTER ROLE haproxy_check RENAME TO elsewhere")
    try:
        before = len(open_to_some.log)
        assert await outcome(build, settings(), open_to_some.port) == UP
        assert [line.partition("FATAL:  ")[2] for line in open_to_some.log[before:]] == [
            'role "haproxy_check" does not exist'
        ]
    finally:
        open_to_some.run("ALTER ROLE elsewhere RENAME TO haproxy_check")


async def test_tls(open_to_some: PostgresqlServer, pem: Certificate) -> None:
    port, trusted = open_to_some.port, {"ca_file": str(pem.file)}
    for keys in ({}, LOGIN):
        assert await outcome(build, settings(**keys, tls=trusted), port) == UP
        assert "certificate verify failed" in await reason(port, **keys, tls=True)


async def test_a_server_that_shuts_down_or_is_killed_is_down(tmp_path: Path) -> None:
    with PostgresqlServer(tmp_path) as server:
        held = await session(server)
        server.program.signal(signal.SIGTERM)  # it waits for the last client
        closing = "the server says: the database system is shutting down (SQL state 57P03)"
        await eventually(lambda: any("smart shutdown" in line for line in server.log), "the shutdown")
        assert await reason(server.port) == closing
        assert await reason(server.port, **LOGIN) == closing
        await held.close()
        await asyncio.to_thread(server.program.wait, 20)
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.kill)
        for keys in ({}, LOGIN):
            async with asyncio.timeout(10):  # its children notice that it is gone, and hold the port until then
                while await reason(server.port, **keys) != f"{here(server.port)}: Connection refused":  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        await asyncio.to_thread(server.start)
        for keys in ({}, LOGIN):
            assert await outcome(build, settings(**keys), server.port) == UP


@pytest.mark.parametrize("login", [{}, LOGIN])
async def test_a_server_that_freezes_after_the_handshake_is_left_at_once(
    pem: Certificate, login: dict[str, Any]
) -> None:
    with frozen(pem, 8, b"S") as (port, closed):
        check = settings(timeout=0.3, tls={"verify": False}, **login)
        start = asyncio.get_running_loop().time()
        seen = await ask(Probe("it", build(check, here(port)), here(port), check.deadline, Rule()))
        assert seen.reason.startswith("no answer")
        assert asyncio.get_running_loop().time() - start < check.deadline + 1, "the deadline"
        assert await asyncio.to_thread(closed.wait, 3)
