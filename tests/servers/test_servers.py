"""The servers that the tests stand on do what their names say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import StartZooKeeper
from tests.servers.haproxy import HaproxyBinary
from tests.servers.mariadb import MariaDBServer
from tests.servers.origin import Origin
from tests.servers.ports import accepts, free_port, free_ports, is_free
from tests.servers.program import Program
from tests.servers.proxy import TcpProxy
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import eventually, wait_until


def test_a_port_in_use_is_not_free() -> None:
    first, second = free_ports(2)
    assert first != second
    assert is_free(first)


def test_a_program_that_ends_at_start_is_named_with_its_output(tmp_path: Path) -> None:
    program = Program((sys.executable, "-c", "print('no such table'); raise SystemExit(3)"), tmp_path / "log")
    with pytest.raises(RuntimeError, match="ended with status 3") as caught:
        program.start(lambda: False, limit=10)
    assert "no such table" in "".join(caught.value.__notes__)
    assert not program.running


def test_a_program_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    program = Program((sys.executable, "-c", "import time; time.sleep(60)"), tmp_path / "log")
    with pytest.raises(TimeoutError):
        program.start(lambda: False, limit=0.2)
    assert not program.running


def test_a_wait_has_a_limit() -> None:
    with pytest.raises(TimeoutError, match="the moon"):
        wait_until(lambda: False, "the moon", limit=0.05)


def test_zookeeper_serves(zookeeper: ZooKeeperServer) -> None:
    assert zookeeper.ask("ruok") == "imok"
    assert zookeeper.url("/nerve") == f"zk://127.0.0.1:{zookeeper.port}/nerve"


def test_a_zookeeper_of_the_test_comes_back_on_its_port(start_zookeeper: StartZooKeeper) -> None:
    server = start_zookeeper()
    server.stop()
    assert not server.running
    assert not accepts(server.port)
    server.start()
    server.kill()
    server.start()
    assert server.ask("ruok") == "imok"
    server.pause()
    assert accepts(server.port)
    with pytest.raises(TimeoutError):
        server.ask("ruok", limit=0.2)
    server.resume()
    assert server.ask("ruok") == "imok"


def test_mariadb_knows_the_user_of_haproxys_check(mariadb: MariaDBServer) -> None:
    assert mariadb.run("SELECT 1") == "1\n"
    answer = subprocess.run(
        [mariadb.client, "--no-defaults", "-h127.0.0.1", f"-P{mariadb.port}", "-uhaproxy_check", "-Ne", "SELECT 1"],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    assert answer.stdout == "1\n"


def test_mariadb_comes_back_with_its_data(mariadb: MariaDBServer) -> None:
    mariadb.run("CREATE DATABASE kept")
    mariadb.kill()
    assert not accepts(mariadb.port)
    mariadb.start()
    assert "kept" in mariadb.run("SHOW DATABASES")


def test_haproxy_is_new_enough(haproxy: HaproxyBinary) -> None:
    assert haproxy.version >= (2, 6)
    assert str(haproxy).startswith("haproxy-2.")


def test_an_origin_answers_its_name(start_origin: Callable[[str], Origin]) -> None:
    origin = start_origin("blue")
    assert _get(origin.port, "/") == "blue"
    assert _get(origin.port, "/health") == "OK"
    origin.kill()
    assert not accepts(origin.port)
    origin.start()
    assert _get(origin.port, "/") == "blue"


def _get(port: int, path: str) -> str:
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode().strip())


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that says back what it hears."""
    port = free_port()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while block := await reader.read(1024):
                writer.write(block)
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port)
    yield port
    server.close()


async def _say(port: int, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    return reader, writer


async def test_the_proxy_forwards_and_cuts_once(echo: int) -> None:
    async with TcpProxy(echo) as proxy:
        reader, writer = await _say(proxy.port, b"hello")
        assert await reader.readexactly(5) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        reader, writer = await _say(proxy.port, b"again")
        assert await reader.readexactly(5) == b"again"
        writer.close()
        assert proxy.accepted == 2
        await eventually(lambda: proxy.open_connections == 0, "connections gone")


async def test_the_proxy_ends_a_reply_in_the_middle(echo: int) -> None:
    async with TcpProxy(echo) as proxy:
        happened = proxy.cut_in_reply(after=3)
        reader, writer = await _say(proxy.port, b"hello")
        assert await reader.read() == b"hel"
        assert happened.is_set()
        writer.close()


async def test_the_proxy_refuses(echo: int) -> None:
    async with TcpProxy(echo) as proxy:
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await proxy.heal()
        reader, writer = await _say(proxy.port, b"back")
        assert await reader.readexactly(4) == b"back"
        writer.close()


async def test_the_proxy_is_silent_and_what_was_lost_is_cut(echo: int) -> None:
    async with TcpProxy(echo) as proxy:
        before, first = await _say(proxy.port, b"one")
        assert await before.readexactly(3) == b"one"
        proxy.silence()
        first.write(b"two")
        after, second = await _say(proxy.port, b"three")
        for reader in (before, after):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await reader.read(1)
        await proxy.heal()
        for reader in (before, after):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        first.close()
        second.close()


async def test_the_proxy_pauses_and_nothing_is_lost(echo: int) -> None:
    async with TcpProxy(echo) as proxy:
        proxy.pause()
        reader, writer = await _say(proxy.port, b"late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        await proxy.heal()
        assert await reader.readexactly(4) == b"late"
        writer.close()
