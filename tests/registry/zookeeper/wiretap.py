"""A proxy that reads ZooKeeper's frames: it counts what is asked, and loses exactly the message that is named."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from dockstack.model import Address
from dockstack.registry import Locator
from tests.servers.ports import free_port

CREATE, DELETE, EXISTS, GET, SET, CHILDREN = 1, 2, 3, 4, 5, 8
PING, MULTI, AUTH, SET_WATCHES, SET_WATCHES_2, ADD_WATCH = 11, 14, 100, 101, 105, 106
CLOSE, REMOVE_WATCHES = -11, 18

UNIMPLEMENTED = -6


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that a client sent: over which connection (from 1), its opcode, and its path if it has one."""

    connection: int
    opcode: int
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client said in its handshake: milliseconds, and the session (0: a new one)."""

    zxid: int
    timeout: int
    session: int


@dataclass(slots=True)
class _Trap:
    """What happens to the next requests of an opcode, after some are let through."""

    opcode: int
    after: int
    sprung: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False, slots=True)
class _Line:
    """One connection; `doomed`: numbers of requests whose replies are lost, `errors`: those that get another reply."""

    number: int
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    doomed: dict[int, asyncio.Event] = field(default_factory=dict)
    errors: dict[int, int] = field(default_factory=dict)

    def end(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Wiretap:
    """Forwards 127.0.0.1:`port` to a server while the context is open."""

    def __init__(self, upstream_port: int) -> None:
        self.port = free_port()
        self.hellos: list[Hello] = []
        self.asked: list[Asked] = []
        self._upstream_port = upstream_port
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost_requests: list[_Trap] = []
        self._lost_replies: list[_Trap] = []
        self._unknown: frozenset[int] = frozenset()
        self._held: frozenset[int] = frozenset()
        self._released = asyncio.Event()

    def locator(self, root: str = "", session_timeout: float = 10.0, **fields: object) -> Locator:
        return Locator(
            "zookeeper",
            (Address("127.0.0.1", self.port),),
            root,
            session_timeout=session_timeout,
            **fields,  # type: ignore[arg-type]
        )

    def count(self, opcode: int, since: int = 0) -> int:
        """Requests of this opcode, from the one with that number on."""
        return self.counts(since)[opcode]

    def counts(self, since: int = 0) -> Counter[int]:
        """How many requests of each opcode, from the one with that number on."""
        return Counter(asked.opcode for asked in self.asked[since:])

    def lose_request(self, opcode: int, after: int = 0) -> asyncio.Event:
        """Once: the connection ends before the server gets such a request; `after` others go through first."""
        return self._trap(self._lost_requests, opcode, after)

    def lose_reply(self, opcode: int, after: int = 0) -> asyncio.Event:
        """Once: the server carries such a request out, and the connection ends instead of the answer."""
        return self._trap(self._lost_replies, opcode, after)

    def act_old(self, *opcodes: int) -> None:
        """As a server does that does not know these opcodes: it says so, and hangs up."""
        self._unknown = frozenset(opcodes)

    def hold(self, *opcodes: int) -> None:
        """Requests of these opcodes, and what is behind them, do not get to the server until `release`."""
        self._held = frozenset(opcodes)
        self._released.clear()

    def release(self) -> None:
        """From now on nothing is held, and nothing more is lost."""
        self._held = frozenset()
        self._released.set()
        self._lost_requests.clear()
        self._lost_replies.clear()

    def cut(self) -> None:
        """Resets all connections."""
        for line in tuple(self._lines):
            line.end()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    def _trap(traps: list[_Trap], opcode: int, after: int) -> asyncio.Event:
        trap = _Trap(opcode, after)
        traps.append(trap)
        return trap.sprung

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            replies, server = await asyncio.open_connection("127.0.0.1", self._upstream_port, limit=2**26)
        except OSError:
            client.transport.abort()
            return
        line = _Line(len(self.hellos) + 1, client, server)
        self._lines.add(line)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._requests(line, requests))
                    both.create_task(self._replies(line, replies))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            line.end()
            self._lines.discard(line)

    async def _requests(self, line: _Line, reader: asyncio.StreamReader) -> None:
        body = await _frame(reader)
        self.hellos.append(Hello(*struct.unpack_from("!qiq", body, 4)))
        _send(line.server, body)
        while True:
            body = await _frame(reader)
            xid, opcode = struct.unpack_from("!ii", body)
            if opcode in self._held:
                await self._released.wait()
            self.asked.append(Asked(line.number, opcode, _path(body), len(body)))
            if (sprung := _sprung(self._lost_requests, opcode)) is not None:
                sprung.set()
                raise ConnectionResetError
            if (sprung := _sprung(self._lost_replies, opcode)) is not None:
                line.doomed[xid] = sprung
            if opcode in self._unknown:
                line.errors[xid] = UNIMPLEMENTED
            _send(line.server, body)

    async def _replies(self, line: _Line, reader: asyncio.StreamReader) -> None:
        _send(line.client, await _frame(reader))
        while True:
            body = await _frame(reader)
            xid, zxid, _ = struct.unpack_from("!iqi", body)
            if (sprung := line.doomed.get(xid)) is not None:
                sprung.set()
                raise ConnectionResetError
            if (error := line.errors.get(xid)) is not None:
                _send(line.client, struct.pack("!iqi", xid, zxid, error))
                line.client.close()
                raise ConnectionResetError
            _send(line.client, body)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack("!i", await reader.readexactly(4))
    return await reader.readexactly(size)


def _send(writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(struct.pack("!i", len(body)) + body)


def _sprung(traps: list[_Trap], opcode: int) -> asyncio.Event | None:
    """The event of the first trap for this opcode if it is this request's turn."""
    for trap in traps:
        if trap.opcode == opcode:
            if trap.after > 0:
                trap.after -= 1
                return None
            traps.remove(trap)
            return trap.sprung
    return None


def _path(body: bytes) -> str:
    """The path that most requests begin with; empty where there is none."""
    if len(body) < 12:
        return ""
    (size,) = struct.unpack_from("!i", body, 8)
    return body[12 : 12 + size].decode(errors="replace") if 0 < size <= len(body) - 12 else ""


def paths(asked: Sequence[Asked], opcode: int) -> list[str]:
    """The paths of the requests of this opcode, in order."""
    return [request.path for request in asked if request.opcode == opcode]
