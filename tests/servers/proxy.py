"""A TCP proxy in the test's event loop, between a client and a real server, that breaks connections on demand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

from tests.servers.ports import free_port

_LIMIT = 5.0


class _Connection:
    """One accepted connection and its counterpart at the server, if there is one."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.upstream: asyncio.StreamWriter | None = None
        self.lossy = False

    def reset(self) -> None:
        """Both ends see a reset at once; what was under way is lost."""
        for writer in (self.client, self.upstream):
            if writer is None:
                continue
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def end(self) -> None:
        """The client reads what was sent and then the end of the file; the server sees a reset."""
        self.client.close()
        if self.upstream is not None:
            self.upstream.transport.abort()


class TcpProxy:
    """Forwards 127.0.0.1:`port` to `upstream_port` on 127.0.0.1 while the context is open.

    `accepted` counts the connections so far. A refused or silent proxy is put right by `heal`.
    """

    def __init__(self, upstream_port: int, *, port: int | None = None) -> None:
        self.upstream_port = upstream_port
        self.port = free_port() if port is None else port
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[_Connection] = set()
        self._silent = False
        self._flow = asyncio.Event()
        self._flow.set()
        self._cut_after: int | None = None
        self._cut_done = asyncio.Event()

    @property
    def hosts(self) -> str:
        """`127.0.0.1:PORT`, as in a host list."""
        return f"127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def cut(self) -> None:
        """Resets each connection that is open; new ones are served."""
        for connection in tuple(self._connections):
            connection.reset()

    async def refuse(self) -> None:
        """Resets each connection; new ones are refused until `heal`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def silence(self) -> None:
        """Until `heal` nothing passes, and bytes are lost: new connections are accepted and never answered."""
        self._silent = True
        for connection in self._connections:
            connection.lossy = True

    def pause(self) -> None:
        """Until `heal` nothing passes, but nothing is lost: it comes late."""
        self._flow.clear()

    def cut_in_reply(self, after: int = 6) -> asyncio.Event:
        """The next bytes from the server end after `after` bytes with the end of the file; the event says: it happened.

        6 is within ZooKeeper's frame (4 bytes of length first); 0 delivers the request and loses the whole reply.
        """
        self._cut_after = after
        self._cut_done = asyncio.Event()
        return self._cut_done

    async def heal(self, *, reset: bool = True) -> None:
        """Serves again. Connections that lost bytes in a silence are reset, or left without a word for ever."""
        self._silent = False
        self._cut_after = None
        self._flow.set()
        for connection in tuple(self._connections):
            if connection.lossy and reset:
                connection.reset()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=1024)

    async def close(self) -> None:
        """Ends all; returns when no task is left."""
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        connection.lossy = self._silent
        self._connections.add(connection)
        try:
            if self._silent:
                await self._swallow(reader)
                return
            async with asyncio.timeout(_LIMIT):
                answers, connection.upstream = await asyncio.open_connection("127.0.0.1", self.upstream_port)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(connection, reader, connection.upstream, reply=False))
                both.create_task(self._pump(connection, answers, writer, reply=True))
        except (OSError, TimeoutError):
            connection.reset()
        finally:
            self._connections.discard(connection)
            connection.end()

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass

    async def _pump(
        self, connection: _Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, reply: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while block := await source.read(65536):
                await self._flow.wait()
                if connection.lossy:
                    continue
                if reply and self._cut_after is not None:
                    sink.write(block[: self._cut_after])
                    self._cut_after = None
                    connection.end()
                    self._cut_done.set()
                    return
                sink.write(block)
                await sink.drain()
        with contextlib.suppress(OSError, RuntimeError):
            if sink.can_write_eof():
                sink.write_eof()

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
