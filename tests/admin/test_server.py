"""A daemon answers on its Unix socket what it is asked, and nothing that a client does holds it up."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from dockstack.admin.client import NoAnswer, ask
from dockstack.admin.report import Report
from dockstack.admin.server import respond, serve
from dockstack.errors import DockStackError

WELL = Report(True, ("nerve: 2 services are up, é", "zookeeper: connected to 10.0.0.1:2181"))
ILL = Report(False, ("mysql: not registered yet",))


async def test_each_question_gets_its_report(tmp_path: Path) -> None:
    path = tmp_path / "nerve.sock"
    async with serve(path, lambda: WELL, lambda: ILL):
        assert await asyncio.to_thread(ask, path, "health") == WELL
        assert await asyncio.to_thread(ask, path, "ready") == ILL
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert os.listdir(tmp_path) == []


async def test_a_socket_left_by_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "nerve.sock"
    first = await asyncio.start_unix_server(lambda reader, writer: None, str(path))
    first.close()
    assert path.exists()
    async with serve(path, lambda: WELL, lambda: WELL):
        assert (await asyncio.to_thread(ask, path, "health")).ok


async def test_a_socket_that_cannot_be_made_says_where_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "nerve.sock"
    path.mkdir()
    with pytest.raises(DockStackError, match=r"nerve\.sock cannot be made: .*--run-dir"):
        async with serve(path, lambda: WELL, lambda: WELL):
            pass


async def test_the_end_does_not_wait_for_a_silent_client(tmp_path: Path) -> None:
    path = tmp_path / "nerve.sock"
    async with asyncio.timeout(2):
        async with serve(path, lambda: WELL, lambda: WELL):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET /health")
            assert (await asyncio.to_thread(ask, path, "health")).ok
        assert await reader.read() == b""
        writer.close()


async def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(NoAnswer, match=r"nerve\.sock: No such file or directory; start dockstack nerve, or"):
        ask(tmp_path / "nerve.sock", "health")


async def test_one_who_accepts_and_never_answers_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "nerve.sock"
    server = await asyncio.start_unix_server(lambda reader, writer: None, str(path))
    with pytest.raises(NoAnswer, match="timed out; it may be stopped or overloaded"):
        await asyncio.to_thread(ask, path, "health", 0.2)
    server.close()


async def test_one_who_answers_a_byte_at_a_time_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "nerve.sock"

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(200):
            writer.write(b"H")
            await asyncio.sleep(0.05)

    server = await asyncio.start_unix_server(drip, str(path))
    with pytest.raises(NoAnswer, match="timed out"):
        async with asyncio.timeout(5):
            await asyncio.to_thread(ask, path, "health", 0.3)
    server.close()


async def test_an_answer_cut_in_the_middle_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "nerve.sock"

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-")
        writer.close()

    server = await asyncio.start_unix_server(cut, str(path))
    with pytest.raises(NoAnswer, match="in the middle"):
        await asyncio.to_thread(ask, path, "health")
    server.close()


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", b"200", b"fine\n"),
        (b"GET /health?verbose HTTP/1.0\r\n\r\n", b"200", b"fine\n"),
        (b"GET /ready HTTP/1.1\r\n\r\n", b"503", b"not yet\n"),
        (b"HEAD /ready HTTP/1.1\r\n\r\n", b"503", b""),
        (b"GET /secret HTTP/1.1\r\n\r\n", b"404", b"there are: /health /ready\n"),
        (b"POST /health HTTP/1.1\r\n\r\n", b"400", b"this is no HTTP request that is answered here\n"),
        (b"\xff\xfe\r\n\r\n", b"400", b"this is no HTTP request that is answered here\n"),
    ],
)
def test_the_answer_to_a_request(request_: bytes, status: bytes, body: bytes) -> None:
    pages = {"/health": lambda: Report(True, ("fine",)), "/ready": lambda: Report(False, ("not yet",))}
    head, _, got = respond(request_, pages).partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert got == body
