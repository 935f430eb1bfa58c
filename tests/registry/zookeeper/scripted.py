"""A server that says what a test tells it to say: for what no real ZooKeeper can be made to do on demand."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from aiozk.protocol.connect import ConnectResponse

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


class Scripted:
    """What runs: `port`, and how often a connection came."""

    def __init__(self) -> None:
        self.port = 0
        self.accepted = 0


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Scripted]:
    """Runs the script for each connection, which ends with it."""
    state = Scripted()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.accepted += 1
        try:
            await script(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def frame(reader: asyncio.StreamReader) -> bytes:
    """The next frame's body."""
    (size,) = struct.unpack("!i", await reader.readexactly(4))
    return await reader.readexactly(size)


def framed(body: bytes) -> bytes:
    return struct.pack("!i", len(body)) + body


def welcome(session: int, timeout: int = 10_000) -> bytes:
    """The answer to a handshake; session 0: it has expired. `timeout` in milliseconds."""
    answer = struct.pack("!iiqi16s", 0, timeout if session else 0, session, 16, b"p" * 16) + b"\0"
    ConnectResponse.deserialize(answer)
    return framed(answer)


def answer(request: bytes, payload: bytes = b"", zxid: int = 1, error: int = 0) -> bytes:
    """The answer to a request's body."""
    (xid,) = struct.unpack_from("!i", request)
    return framed(struct.pack("!iqi", xid, zxid, error) + payload)


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, and never answers."""
    while await reader.read(65536):
        pass


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, and ends the connection at once."""


async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each handshake with: no session."""
    await frame(reader)
    writer.write(welcome(0))
    await writer.drain()


async def speaks_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Is a web server."""
    await frame(reader)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


async def promises_too_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Announces a frame of two gigabytes."""
    await frame(reader)
    writer.write(struct.pack("!i", 2**31 - 1))
    await reader.read()
