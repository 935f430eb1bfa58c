"""The HTTP check against servers that answer well, badly, slowly, never, and over TLS."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dockstack.model import Address
from dockstack.nerve.checks import Unhealthy
from dockstack.nerve.checks.http import build, warnings
from dockstack.nerve.judge import Rule
from dockstack.nerve.probe import Outcome, Probe, ask
from dockstack.settings.nerve import HttpCheck
from tests.waiting import eventually

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def settings(**keys: Any) -> HttpCheck:
    return HttpCheck.model_validate({"type": "http", "uri": "/health", "timeout": 2, "open_timeout": 2, **keys})


class Server:
    """Keeps the requests that it got."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.target = Address("127.0.0.1", 0)

    def header(self, name: str) -> str | None:
        """The header of the last request."""
        for line in self.requests[-1].decode().split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None


@asynccontextmanager
async def serving(answer: Answer | bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            server.requests.append(request)
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(request, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as listener:
        server.target = Address("127.0.0.1", listener.sockets[0].getsockname()[1])
        yield server


def response(status: str = "200 OK", body: bytes = b"OK", *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


async def outcome(server: Server, check: HttpCheck) -> Outcome:
    """As nerve would see it: with the check's own deadline around it."""
    return await ask(Probe("http", build(check, server.target), server.target, check.deadline, Rule()))


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "301 Moved Permanently", "399 X"])
async def test_200_to_399_are_up(status: str) -> None:
    async with serving(response(status, b"", "Location: http://127.0.0.1:1/")) as server:
        assert await outcome(server, settings()) == Outcome("http", True)
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "503 Service Unavailable"])
async def test_other_answers_are_down(status: str) -> None:
    async with serving(response(status)) as server:
        assert await outcome(server, settings(expect="OK")) == Outcome("http", False, f"answered {status}")


@pytest.mark.parametrize(
    ("body", "healthy"),
    [(b"OK", True), (b"all is OK here", True), (b"ok", False), (b"", False), (b"x" * 300_000 + b"OK", True)],
)
async def test_the_expected_text_is_looked_for_in_the_body(body: bytes, healthy: bool) -> None:
    async with serving(response(body=body)) as server:
        assert (await outcome(server, settings(expect="OK"))).healthy is healthy


async def test_a_text_that_comes_in_pieces_is_found() -> None:
    async def slowly(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for letter in b"hallo":
            writer.write(b"1\r\n" + bytes([letter]) + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")

    async with serving(slowly) as server:
        assert (await outcome(server, settings(expect="allo"))).healthy
        lacking = await outcome(server, settings(expect="hello"))
    assert lacking.reason == "the answer of 5 bytes does not contain 'hello': it begins 'hallo'"


async def test_a_body_without_end_is_read_to_a_limit() -> None:
    async def endless(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with serving(endless) as server:
        assert (await outcome(server, settings())).healthy
        assert "does not contain" in (await outcome(server, settings(expect="OK"))).reason


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nOK", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00\x01\x02\r\n\r\n"],
)
async def test_a_broken_answer_is_down_and_no_bug(answer: bytes) -> None:
    async with serving(answer) as server:
        seen = await outcome(server, settings())
    assert not seen.healthy
    assert seen.reason
    assert seen.bug is None


async def test_a_server_that_never_answers_is_down_in_time() -> None:
    async def never(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    loop = asyncio.get_running_loop()
    async with serving(never) as server:
        start = loop.time()
        assert not (await outcome(server, settings(timeout=0.1, open_timeout=20))).healthy
        assert loop.time() - start < 10


async def test_a_server_that_drips_is_down_at_the_deadline() -> None:
    async def drip(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(drip) as server:
        seen = await outcome(server, settings(timeout=0.2, open_timeout=0.1))
    assert seen.reason == f"no answer from {server.target} within 0.3 s"


async def test_read_timeout_replaces_timeout() -> None:
    async def late(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(response())

    async with serving(late) as server:
        assert (await outcome(server, settings(timeout=0.05, read_timeout=5))).healthy
        assert not (await outcome(server, settings(timeout=5, read_timeout=0.05, open_timeout=0.05))).healthy


async def test_a_closed_port_is_down() -> None:
    async with serving(b"") as server:
        pass
    seen = await outcome(server, settings())
    assert not seen.healthy
    assert seen.reason == f"{server.target}: Connection refused"


async def test_each_check_is_a_new_connection() -> None:
    connections = 0

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(response())
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    async with await asyncio.start_server(keep, "127.0.0.1", 0) as listener:
        target = Address("127.0.0.1", listener.sockets[0].getsockname()[1])
        check = build(settings(), target)
        for _ in range(3):
            await check(target)
    assert connections == 3


async def test_no_connection_stays_behind() -> None:
    open_now: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        try:
            if b"/health" in await reader.readuntil(b"\r\n\r\n"):
                writer.write(response(body=b"OK and more"))
            await reader.read()
        finally:
            open_now.discard(writer)
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        target = Address("127.0.0.1", listener.sockets[0].getsockname()[1])
        await build(settings(expect="OK"), target)(target)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await build(settings(uri="/silence"), target)(target)
        await eventually(lambda: not open_now, "the end of both connections")


async def test_what_is_asked() -> None:
    async with serving(response()) as server:
        await build(settings(uri="/health?a=%2F&b=c d\n"), server.target)(server.target)
        assert server.requests[0].startswith(b"GET /health?a=%2F&b=c%20d%0A HTTP/1.1\r\n")
        assert server.header("host") == str(server.target)
        assert server.header("cookie") is None
        await build(settings(headers={"Host": "www", "X-Probe": "1"}, uri="health"), server.target)(server.target)
        assert server.requests[1].startswith(b"GET /health HTTP/1.1\r\n")
        assert (server.header("host"), server.header("x-probe")) == ("www", "1")
        await build(settings(uri="@127.0.0.1:1/x"), server.target)(server.target)
        assert server.requests[2].startswith(b"GET /@127.0.0.1:1/x HTTP/1.1\r\n")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for `db.example` signed by itself, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=db.example"),
            *("-addext", "subjectAltName=DNS:db.example"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_tls_without_verification(tls: ssl.SSLContext) -> None:
    async with serving(response(), tls) as server:
        assert await outcome(server, settings(ssl=True, ssl_timeout=2, expect="OK")) == Outcome("http", True)


async def test_tls_with_verification(tls: ssl.SSLContext, certificate: tuple[Path, Path]) -> None:
    strict = {"ssl": True, "verify": True, "ssl_timeout": 2}
    own = {"ca_file": str(certificate[0])}
    async with serving(response(), tls) as server:
        assert (await outcome(server, settings(**strict, **own, server_name="db.example"))).healthy
        unknown = await outcome(server, settings(**strict, server_name="db.example"))
        other = await outcome(server, settings(**strict, **own))
    assert "certificate verify failed" in unknown.reason
    assert "IP address mismatch" in other.reason


async def test_a_server_that_never_shakes_hands_is_down_in_time() -> None:
    async with serving(b"") as server:
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert not (await outcome(server, settings(ssl=True, open_timeout=0.1, ssl_timeout=0.1))).healthy
        assert loop.time() - start < 10


def test_a_missing_ca_file_is_an_error_when_the_check_is_built() -> None:
    with pytest.raises(OSError, match="No such file"):
        build(settings(ssl=True, verify=True, ca_file="/nowhere/ca.pem"), Address("h", 1))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"headers": {"authorization": "x"}, "ssl": True}, "not verified"),
        ({"headers": {"Authorization": "x"}}, "clear text"),
        ({"headers": {"Authorization": "x"}, "ssl": True, "verify": True}, None),
        ({"headers": {"X-Other": "x"}, "ssl": True}, None),
    ],
)
def test_a_secret_for_an_unknown_server_is_warned_of(keys: dict[str, Any], words: str | None) -> None:
    told = warnings(settings(**keys))
    assert len(told) == (0 if words is None else 1)
    assert words is None or words in told[0]


async def test_unhealthy_is_what_is_raised() -> None:
    async with serving(response("500 Oops")) as server:
        with pytest.raises(Unhealthy, match="answered 500 Oops"):
            await build(settings(), server.target)(server.target)
