"""The registry in a directory, seen from outside with nothing but the system's own calls."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path

from dockstack.registry import Lease, Locator, Registry, open_registry
from dockstack.registry.codec import sequence_of
from tests.contract.recording import quiet
from tests.contract.worlds import no


class FileWorld:
    name = "file"
    patience = 1.0

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._root = directory / "registry"
        self._away = directory / "away"
        self._stack = stack

    def registry(self) -> AbstractAsyncContextManager[Registry]:
        return open_registry(Locator("file", root=str(self._root)), quiet)

    def number(self, lease: Lease) -> int | None:
        return sequence_of(lease.node)

    async def break_(self) -> None:
        """A file stands where the directory was: also root, whom no permission stops, cannot read it."""
        if self._root.exists():
            self._root.rename(self._away)
        self._root.touch()

    async def heal(self) -> None:
        self._root.unlink()
        if self._away.exists():
            self._away.rename(self._root)

    async def cut(self) -> None:
        no("there is no connection")

    async def cut_in_reply(self, after: int) -> asyncio.Event:
        no("there is no connection")

    async def silence(self) -> None:
        no("there is no server")

    async def expire(self, registry: Registry) -> None:
        no("a lock has no time-out")

    async def restart(self) -> None:
        no("there is no server")

    async def write(self, path: str, name: str, data: bytes) -> None:
        directory = self._directory(path)
        directory.mkdir(parents=True, exist_ok=True)
        file = self._stack.enter_context((directory / ".foreign").open("wb"))
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(data)
        file.flush()
        (directory / ".foreign").rename(directory / name)

    async def fill(self, path: str, count: int) -> None:
        no("each of them would be an open file")

    async def delete(self, path: str, name: str) -> None:
        (self._directory(path) / name).unlink()

    async def nodes(self, path: str) -> dict[str, bytes]:
        directory = self._directory(path)
        names = [name for name in os.listdir(directory) if not name.startswith(".")]
        return {name: (directory / name).read_bytes() for name in names if _is_locked(directory / name)}

    def _directory(self, path: str) -> Path:
        return self._root / path.strip("/")


def _is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@asynccontextmanager
async def file_world(directory: Path) -> AsyncIterator[FileWorld]:
    with ExitStack() as stack:
        yield FileWorld(directory, stack)
