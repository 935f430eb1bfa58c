"""One connection against a scripted server: whatever ends it fails all that is pending, at once."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiozk import exc
from aiozk.protocol.connect import ConnectRequest
from aiozk.protocol.data import GetDataRequest
from aiozk.protocol.delete import DeleteRequest
from aiozk.protocol.watches import WatchEvent

from dockstack.errors import RegistryUnavailable
from dockstack.model import Address
from dockstack.registry.zookeeper.connection import Connection, Interrupted, Server, connect, resolve
from tests.registry.zookeeper.scripted import Script, answer, deaf, frame, framed, scripted, speaks_http, welcome
from tests.servers.ports import free_port
from tests.waiting import eventually

HELLO = ConnectRequest(
    protocol_version=0, last_seen_zxid=0, timeout=1000, session_id=0, password=b"\0" * 16, read_only=False
)
EVENT = framed(struct.pack("!iqiiii2s", -1, -1, 0, WatchEvent.DELETED, 3, 2, b"/a"))


def delete(path: str = "/a") -> DeleteRequest:
    return DeleteRequest(path=path, version=-1)


@asynccontextmanager
async def greeted(script: Script, events: list[WatchEvent] | None = None) -> AsyncIterator[Connection]:
    """A connection whose handshake is done; the script goes on from there."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await frame(reader)
        writer.write(welcome(7))
        await script(reader, writer)

    async with asyncio.timeout(20), scripted(serve) as server:
        told = events if events is not None else []
        connection = await connect(Server("127.0.0.1", "127.0.0.1", server.port), None, told.append, 5.0)
        try:
            assert (await connection.handshake(HELLO)).session_id == 7
            yield connection
        finally:
            connection.abort("the test is over")


async def test_answers_come_in_order_and_errors_are_aiozks() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = [await frame(reader) for _ in range(3)]
        writer.write(answer(requests[0], zxid=5) + answer(requests[1], zxid=9, error=-101) + answer(requests[2]))
        await reader.read()

    async with greeted(script) as connection:
        answers = [connection.send(delete()) for _ in range(3)]
        await asyncio.wait(answers)
        assert isinstance(answers[1].exception(), exc.NoNode)
        assert answers[0].result() is not None
        assert answers[2].result() is not None
        assert connection.zxid == 9


async def test_a_watch_event_among_the_bytes_of_an_answer() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await frame(reader)
        for byte in answer(request) + EVENT:
            writer.write(bytes([byte]))
            await writer.drain()
        await reader.read()

    events: list[WatchEvent] = []
    async with greeted(script, events) as connection:
        await connection.send(delete())
        await eventually(lambda: len(events) == 1, "the event")
        assert (events[0].type, events[0].path) == (WatchEvent.DELETED, "/a")


async def test_the_end_of_the_file_inside_an_answer_fails_all_that_is_pending() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = [await frame(reader) for _ in range(3)]
        writer.write(answer(requests[0]) + answer(requests[1])[:9])

    async with greeted(script) as connection:
        answers = [connection.send(delete()) for _ in range(3)]
        await asyncio.wait(answers)
        assert answers[0].exception() is None
        assert all(isinstance(late.exception(), Interrupted) for late in answers[1:])
        assert "closed" in await connection.closed
        with pytest.raises(RegistryUnavailable) as raised:
            await connection.send(delete())
        assert not isinstance(raised.value, Interrupted)  # nothing was sent


@pytest.mark.parametrize(
    "nonsense",
    [
        framed(struct.pack("!iqi", 4242, 1, 0)),
        framed(b"short"),
        struct.pack("!i", -5),
        struct.pack("!i", 2**31 - 1),
        framed(struct.pack("!iqi", -1, -1, 0)),
        framed(struct.pack("!iqiii", -1, -1, 0, 1, 3) + struct.pack("!i", -1)),
    ],
    ids=["another answer", "no header", "a negative size", "a huge size", "an empty event", "an event without a path"],
)
async def test_nonsense_ends_the_connection(nonsense: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await frame(reader)
        writer.write(nonsense)
        await reader.read()

    async with greeted(script) as connection:
        with pytest.raises(Interrupted, match="cannot be read"):
            await connection.send(delete())


async def test_nothing_is_believed_behind_an_answer_that_ended_the_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENT + answer(await frame(reader), error=-112) + EVENT)
        await reader.read()

    events: list[WatchEvent] = []
    async with greeted(script, events) as connection:
        with pytest.raises(Interrupted):
            await connection.send(delete())
        assert len(events) == 1


async def test_an_answer_that_cannot_be_decoded_ends_the_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(await frame(reader), b"\0\0\0\x09x"))
        await reader.read()

    async with greeted(script) as connection:
        with pytest.raises(Interrupted, match="cannot be read"):
            await connection.send(GetDataRequest(path="/a", watch=False))


@pytest.mark.parametrize("error", [-112, -118], ids=["expired", "moved"])
async def test_a_server_that_no_longer_serves_the_session_is_left(error: int) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(await frame(reader), error=error))
        await reader.read()

    async with greeted(script) as connection:
        with pytest.raises(RegistryUnavailable):
            await connection.send(delete())
        await connection.closed


async def test_a_cancelled_request_does_not_shift_the_answers() -> None:
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = [await frame(reader) for _ in range(2)]
        await go.wait()
        writer.write(answer(requests[0], error=-110) + answer(requests[1], error=-101))
        await reader.read()

    async with greeted(script) as connection:
        first, second = connection.send(delete()), connection.send(delete())
        first.cancel()
        go.set()
        with pytest.raises(exc.NoNode):
            await second


async def test_authentication_refused() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(await frame(reader), error=-115))
        await reader.read()

    async with greeted(script) as connection:
        with pytest.raises(exc.AuthFailed):
            await connection.authenticate("user", "password")


async def test_a_handshake_with_something_else() -> None:
    async with scripted(speaks_http) as server:
        connection = await connect(Server("127.0.0.1", "127.0.0.1", server.port), None, print, 5.0)
        with pytest.raises(RegistryUnavailable, match="no ZooKeeper"):
            await connection.handshake(HELLO)


async def test_a_refused_connection_names_the_server() -> None:
    port = free_port()
    with pytest.raises(RegistryUnavailable, match=rf"127\.0\.0\.1:{port}: .*refused|127\.0\.0\.1:{port}.*Connect"):
        await connect(Server("127.0.0.1", "127.0.0.1", port), None, print, 5.0)


async def test_a_connection_that_nobody_accepts_has_a_limit() -> None:
    """A full backlog: the kernel lets further connections wait without a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            async with asyncio.timeout(10):
                with pytest.raises(RegistryUnavailable, match="did not accept"):
                    await connect(Server("127.0.0.1", "127.0.0.1", port), None, print, 0.3)
        finally:
            for filler in fillers:
                filler.close()


async def test_aborting_a_deaf_server_fails_what_is_pending() -> None:
    async with greeted(deaf) as connection:
        pending = connection.send(delete())
        connection.ping()
        connection.abort("enough")
        with pytest.raises(Interrupted, match="enough"):
            await pending


async def test_an_address_is_itself_and_a_name_is_all_its_addresses() -> None:
    assert await resolve(Address("::1", 7), 1.0) == [Server("::1", "::1", 7)]
    found = await resolve(Address("localhost", 7), 5.0)
    assert "127.0.0.1" in {server.ip for server in found}
    assert all(server.host == "localhost" for server in found)
    with pytest.raises(RegistryUnavailable, match=r"nowhere\.invalid could not be resolved"):
        await resolve(Address("nowhere.invalid", 7), 5.0)
