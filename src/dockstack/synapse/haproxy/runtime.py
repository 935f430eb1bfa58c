"""One persistent connection to HAProxy's Runtime API: commands go out pipelined, each reply is told from the next.

Framing that holds on every version from 2.6: the mode `prompt`, one command per line, and one `\\n> ` per command.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dockstack.errors import HaproxyUnavailable
from dockstack.synapse.haproxy.commands import Command
from dockstack.synapse.haproxy.state import ServerState, parse_servers_state

WINDOW = 8192
"""Bytes of commands that may be unanswered: half of HAProxy's buffer, so that neither side blocks on a full one."""

MARK = "DOCKSTACK_MARK"
"""The environment variable that the file sets, and by which a process tells which structure it loaded."""

_PROMPT = b"\n> "
_SEVERAL = re.compile(rb"\n|(?<!\\);")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which worker answers: its process id, version, whether it is being retired, and the mark of its file."""

    pid: int
    version: tuple[int, int]
    stopping: bool
    mark: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that was not answered as it should be: its place in the batch, and HAProxy's words."""

    index: int
    line: str
    reply: str

    def __str__(self) -> str:
        return f"`{self.line}` was answered {self.reply!r}"


class _Pipe(asyncio.Protocol):
    """Splits what arrives at the prompts, and hands each reply to whoever waits for it, in order."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._queue: deque[bytes] = deque()
        self._sizes: deque[int] = deque()
        self._unanswered = 0
        self._replies: list[str] = []
        self._expected = 0
        self._done: asyncio.Future[list[str]] | None = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        if self._done is not None and not self._done.done():
            self._done.set_exception(HaproxyUnavailable(f"HAProxy closed the Runtime API connection ({exc or 'EOF'})"))

    def send(self, lines: Sequence[bytes]) -> asyncio.Future[list[str]]:
        """Starts a batch; the future gets one reply per line."""
        if self._done is not None and not self._done.done():
            raise AssertionError("a batch is under way")
        self._done = asyncio.get_running_loop().create_future()
        if self.lost.done():
            self._done.set_exception(HaproxyUnavailable("the Runtime API connection is closed"))
            return self._done
        self._replies = []
        self._expected = len(lines)
        self._queue.extend(lines)
        self._push()
        return self._done

    def _push(self) -> None:
        burst = bytearray()
        while self._queue and (not self._sizes or self._unanswered + len(self._queue[0]) <= WINDOW):
            line = self._queue.popleft()
            self._sizes.append(len(line))
            self._unanswered += len(line)
            burst += line
        if burst and self._transport is not None:
            self._transport.write(burst)

    def data_received(self, data: bytes) -> None:
        searched = max(0, len(self._buffer) - len(_PROMPT) + 1)
        self._buffer += data
        start = 0
        while (end := self._buffer.find(_PROMPT, max(start, searched))) >= 0:
            if not self._sizes:  # HAProxy spoke unasked: the replies can no longer be told apart
                self.close()
                return
            self._unanswered -= self._sizes.popleft()
            self._replies.append(self._buffer[start:end].decode(errors="replace"))
            start = end + len(_PROMPT)
        del self._buffer[:start]
        self._push()
        if self._done is not None and not self._done.done() and len(self._replies) == self._expected:
            self._done.set_result(self._replies)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if not self.lost.done():
            self.lost.set_result(None)


class Runtime:
    """A connection that is ready for commands. One batch at a time; a failed or cancelled batch closes it."""

    def __init__(self, pipe: _Pipe, path: Path) -> None:
        self._pipe = pipe
        self._lock = asyncio.Lock()
        self.path = path

    @property
    def closed(self) -> bool:
        """Whether commands can no longer be sent."""
        return self._pipe.lost.done()

    async def wait_closed(self) -> None:
        """Returns when the connection is gone, for whatever reason."""
        await asyncio.shield(self._pipe.lost)

    def close(self) -> None:
        """Ends the connection at once: an open one keeps a retired worker from ending."""
        self._pipe.close()

    async def ask(self, lines: Sequence[str], limit: float) -> list[str]:
        """The reply to each line, without surrounding white space.

        Raises HaproxyUnavailable when they are not all there after `limit` seconds or the connection breaks; the
        connection is closed then, and how much was carried out is not known.
        """
        encoded = [line.encode() + b"\n" for line in lines]
        for line in encoded:
            if _SEVERAL.search(line[:-1]) or len(line) >= 2 * WINDOW:
                raise ValueError(f"no line for the Runtime API: {line[:80]!r}")
        if not encoded:
            return []
        async with self._lock:
            try:
                async with asyncio.timeout(limit):
                    replies = await self._pipe.send(encoded)
            except TimeoutError:
                self.close()
                raise HaproxyUnavailable(
                    f"HAProxy did not answer {len(encoded)} commands on {self.path} within {limit:g} s"
                ) from None
            except BaseException:
                self.close()
                raise
        return [reply.strip() for reply in replies]

    async def execute(self, commands: Sequence[Command], limit: float) -> tuple[Refusal, ...]:
        """Sends all commands and returns those whose reply is not one of theirs; a failure does not stop the next.

        Raises as `ask` does.
        """
        replies = await self.ask([command.line for command in commands], limit)
        return tuple(
            Refusal(index, command.line, reply)
            for index, (command, reply) in enumerate(zip(commands, replies, strict=True))
            if not command.accepts(reply)
        )

    async def identity(self, limit: float) -> Identity:
        """Which worker this connection talks to. Raises HaproxyUnavailable."""
        info, mark = await self.ask(["show info", f"show env {MARK}"], limit)
        return parse_identity(info, mark)

    async def servers(self, limit: float, backend: str = "") -> Mapping[str, Mapping[str, ServerState]]:
        """All servers as HAProxy has them, by backend and name; of one backend if named. Raises HaproxyUnavailable."""
        (reply,) = await self.ask([f"show servers state {backend}".rstrip()], limit)
        try:
            return parse_servers_state(reply)
        except ValueError as error:
            raise HaproxyUnavailable(f"`show servers state {backend}` on {self.path}: {error}") from None


async def connect(path: Path, limit: float) -> Runtime:
    """A connection in prompt mode with severities and an idle time-out of an hour (the default is 10 s).

    Raises HaproxyUnavailable within `limit` seconds.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limit):
            _, pipe = await loop.create_unix_connection(_Pipe, str(path))
            runtime = Runtime(pipe, path)
            await runtime.ask(["prompt"], limit)
            await runtime.ask(["set severity-output number", "set timeout cli 1h"], limit)
    except (OSError, TimeoutError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no answer"
        raise HaproxyUnavailable(f"HAProxy cannot be reached on {path}: {reason}") from None
    return runtime


def parse_identity(info: str, env: str) -> Identity:
    """What `show info` and `show env DOCKSTACK_MARK` say about the worker. Raises HaproxyUnavailable on other text."""
    fields = dict(line.split(": ", 1) for line in info.splitlines() if ": " in line)
    version = re.match(r"(\d+)\.(\d+)", fields.get("Version", ""))
    if version is None or not fields.get("Pid", "").isdigit():
        raise HaproxyUnavailable(f"`show info` was answered {info[:80]!r}")
    mark = env.removeprefix(f"{MARK}=") if env.startswith(f"{MARK}=") else None
    return Identity(
        pid=int(fields["Pid"]),
        version=(int(version[1]), int(version[2])),
        stopping=fields.get("Stopping", "0") != "0",
        mark=mark,
    )
