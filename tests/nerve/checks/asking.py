"""Runs one check as nerve does, and sees what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import socket
import ssl
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from dockstack.model import Address
from dockstack.nerve.checks import Check
from dockstack.nerve.judge import Rule
from dockstack.nerve.probe import Outcome, Probe, ask
from dockstack.settings.nerve import CheckSettings
from tests.servers.certificate import Certificate
from tests.waiting import eventually


def here(port: int) -> Address:
    return Address("127.0.0.1", port)


async def outcome(build: Callable[[Any, Address], Check], settings: CheckSettings, port: int) -> Outcome:
    """One result, after which nothing of the check is left."""
    target = here(port)
    check = build(settings, target)
    async with nothing_left():
        start = asyncio.get_running_loop().time()
        seen = await ask(Probe("it", check, target, settings.deadline, Rule()))
        assert asyncio.get_running_loop().time() - start < settings.deadline + 1, "the deadline"
    return seen


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Around what must leave no task, socket, pipe or child process behind, a moment later."""
    gc.collect(1)  # what others have left
    tasks, descriptors, children = asyncio.all_tasks(), _descriptors(), _children()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        yield
        await eventually(lambda: asyncio.all_tasks() <= tasks, "no task more")
        await eventually(lambda: _descriptors() <= descriptors, "no descriptor more")
        await eventually(lambda: _children() <= children, "no child more")
        gc.collect(1)
    # What nobody has closed says so when it is collected.
    assert [str(one.message) for one in said if one.category is ResourceWarning] == []


def _descriptors() -> int:
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.append(os.readlink(entry))
        except FileNotFoundError:  # the directory's own descriptor
            continue
    return sum(name.startswith(("socket:", "pipe:", "anon_inode:[pidfd]")) for name in names)


def _children() -> set[str]:
    pids: set[str] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            pids |= set((thread / "children").read_text().split())
    return pids


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """The port of a server that accepts, hears, and never says a word; at the end no connection to it is open."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
        finally:
            connections -= 1
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]
        await eventually(lambda: connections == 0, "no connection")


@contextmanager
def frozen(pem: Certificate, prelude: int = 0, reply: bytes = b"") -> Iterator[tuple[int, threading.Event]]:
    """The port of a server that hears `prelude` bytes, replies, shakes hands for TLS and then neither hears nor says
    anything, not even a farewell; and what tells that its first connection is closed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem.file, pem.key)
    closed = threading.Event()

    def serve() -> None:
        plain, _ = listener.accept()
        plain.settimeout(10)
        if prelude:
            plain.recv(prelude)
            plain.sendall(reply)
        with context.wrap_socket(plain, server_side=True) as secure:
            ended = select.poll()
            ended.register(secure, select.POLLRDHUP)
            if ended.poll(10_000):
                closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], closed
        thread.join()


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[int]:
    """The port of a server that says this once it has heard something, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]
