"""The Redis check against real servers: with a password, over TLS, as a replica, killed, silent."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockstack.nerve.checks import Unhealthy
from dockstack.nerve.checks.redis import build, judge_role
from dockstack.nerve.judge import Rule
from dockstack.nerve.probe import Outcome, Probe, ask
from dockstack.settings.nerve import RedisCheck
from tests.nerve.checks.asking import frozen, here, outcome, saying, silent
from tests.servers.certificate import Certificate, certificate
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer
from tests.waiting import eventually

UP = Outcome("it", True)


def settings(**keys: Any) -> RedisCheck:
    return RedisCheck.model_validate({"type": "redis", "timeout": 5, **keys})


async def reason(server: RedisServer | int, **keys: Any) -> str:
    port = server if isinstance(server, int) else server.port
    seen = await outcome(build, settings(**keys), port)
    assert (seen.healthy, seen.bug) == (False, None)
    return seen.reason


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One that wants a password, from `default`, from `whole`, and from `nerve`, who may do little."""
    nerve = ("--user", "nerve", "on", ">s3cret", "+ping")
    whole = ("--user", "whole", "on", ">s3cret", "~*", "+ping", "+exists", "+role")
    with RedisServer(tmp_path_factory.mktemp("closed"), "--requirepass", "hush", *nerve, *whole) as server:
        yield server


async def test_a_server_is_asked_and_is_up(redis: RedisServer) -> None:
    redis.ask("CONFIG", "RESETSTAT")
    assert await outcome(build, settings(), redis.port) == UP
    asked = set(re.findall(r"cmdstat_([^:]+):calls=1,", redis.ask("INFO", "commandstats")))
    assert asked == {"ping", "exists", "config|resetstat"}


async def test_a_password(closed: RedisServer) -> None:
    assert await outcome(build, settings(password="hush"), closed.port) == UP
    assert await outcome(build, settings(username="whole", password="s3cret", role="master"), closed.port) == UP
    assert await reason(closed) == "the server says: Authentication required."
    assert (await reason(closed, password="wrong")).startswith("the server says: invalid username-password pair")
    assert (await reason(closed, username="nobody", password="hush")).startswith("the server says: invalid username")


async def test_a_user_who_may_not_ask_is_down(closed: RedisServer) -> None:
    assert "has no permissions" in await reason(closed, username="nerve", password="s3cret")


async def test_the_role(redis: RedisServer, tmp_path: Path) -> None:
    assert await outcome(build, settings(role="master"), redis.port) == UP
    assert await reason(redis, role="replica") == "the role is master, not replica"
    assert await reason(redis, role="slave") == "the role is master, not slave"
    with RedisServer(tmp_path, "--replicaof", f"127.0.0.1 {redis.port}") as replica:
        await eventually(lambda: "master_link_status:up" in replica.ask("INFO", "replication"), "the link", limit=20)
        assert await outcome(build, settings(role="replica"), replica.port) == UP
        assert await outcome(build, settings(role="slave"), replica.port) == UP
        assert await reason(replica, role="master") == "the role is slave, not master"


@pytest.mark.parametrize(
    ("answer", "role"), [([b"sentinel", []], "sentinel"), ([], "[]"), (b"x", "x"), (None, "None"), ([b"\xff"], "�")]
)
def test_another_answer_is_another_role(answer: object, role: str) -> None:
    with pytest.raises(Unhealthy) as raised:
        judge_role(answer, "master")
    assert str(raised.value) == f"the role is {role}, not master"


async def test_no_room_for_another_client_is_down(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--maxclients", "1") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as first:
            first.sendall(b"PING\r\n")
            first.recv(16)
            assert "max number of clients reached" in await reason(server)
        await eventually(lambda: server.ask("PING") == "+PONG\r\n", "room")
        assert await outcome(build, settings(), server.port) == UP


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, pem: Certificate) -> Iterator[tuple[RedisServer, int]]:
    """A server and its port for TLS."""
    port = free_port()
    files = ("--tls-cert-file", str(pem.file), "--tls-key-file", str(pem.key), "--tls-ca-cert-file", str(pem.file))
    words = ("--tls-port", str(port), "--tls-auth-clients", "optional", *files)
    with RedisServer(tmp_path_factory.mktemp("secure"), *words) as server:
        yield server, port


async def test_tls(secure: tuple[RedisServer, int], pem: Certificate) -> None:
    _, port = secure
    assert await outcome(build, settings(tls={"ca_file": str(pem.file)}), port) == UP
    assert await outcome(build, settings(tls={"verify": False}), port) == UP
    both = {"ca_file": str(pem.file), "cert_file": str(pem.file), "key_file": str(pem.key)}
    assert await outcome(build, settings(tls=both), port) == UP
    assert "certificate verify failed" in await reason(port, tls=True)
    assert await reason(port, timeout=2) != ""


def test_a_file_of_tls_that_is_not_there_is_told_when_the_check_is_built(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        build(settings(tls={"ca_file": str(tmp_path / "none.pem")}), here(1))


async def test_a_killed_server_is_down_and_up_again(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        assert await outcome(build, settings(), server.port) == UP
        server.kill()
        assert await reason(server) == f"{here(server.port)}: Connection refused"
        server.start()
        assert await outcome(build, settings(), server.port) == UP
        server.pause()
        assert await reason(server, timeout=0.2) == f"no answer from {here(server.port)} within 0.2 s"
        server.resume()
        assert await outcome(build, settings(), server.port) == UP


@pytest.mark.parametrize("keys", [{}, {"password": "x"}, {"tls": {"verify": False}}])
async def test_a_silent_server_is_down_in_time(keys: dict[str, Any]) -> None:
    async with silent() as port:
        assert await reason(port, timeout=0.2, **keys) == f"no answer from {here(port)} within 0.2 s"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 5, b"$" * 200_000])
async def test_what_is_no_redis_is_down(answer: bytes) -> None:
    async with saying(answer) as port:
        assert await reason(port) != ""


async def test_a_server_that_freezes_after_the_handshake_is_left_at_once(pem: Certificate) -> None:
    with frozen(pem) as (port, closed):
        check = settings(timeout=0.3, tls={"verify": False})
        start = asyncio.get_running_loop().time()
        seen = await ask(Probe("it", build(check, here(port)), here(port), check.deadline, Rule()))
        assert seen.reason.startswith("no answer")
        assert asyncio.get_running_loop().time() - start < check.deadline + 1, "the deadline"
        assert await asyncio.to_thread(closed.wait, 3)
