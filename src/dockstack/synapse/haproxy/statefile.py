"""SmartStack's state file on disk: read at the start, written behind the changes and, unchanged, for its age."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from dockstack.events import Emit, Warn
from dockstack.model import Entry, Instance
from dockstack.runtime.files import Trouble, write_atomically
from dockstack.runtime.loops import until_done
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.haproxy.past import Content, Past, encode

EVERY = 30.0
"""Seconds after which the file is written at the latest: others take one older than a minute as a sign of death."""

SPACING = 1.0
"""Seconds between two writes: a burst of changes is one."""

MODE = 0o644


class StateFile:
    """Keeps the file at `path` equal to what it is told."""

    def __init__(self, path: Path, ttl: float, emit: Emit) -> None:
        self._path = path
        self._emit = emit
        self.past = Past(ttl)
        self._turn = threading.Lock()  # a write that was given up may still be at it in its thread
        self._news = asyncio.Event()
        self._seen = False
        self._trouble = Trouble(path)

    @property
    def trouble(self) -> tuple[str, ...]:
        """Why the file on disk is an old one, if the disk refuses it."""
        return (self._trouble.said,) if self._trouble.said else ()

    def load(self) -> None:
        """Reads the file; one that cannot be read is an empty one, with a warning. Blocks.

        What is too old in it is neither served nor listed, but a server that turns out to be there has its id again.
        """
        try:
            problems = self.past.load(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            problems = (str(error),)
        for problem in problems[:3]:
            self._emit(Warn(f"the state file {self._path}: {problem}"))

    def newest(self) -> Mapping[str, Entry]:
        """By service, the servers that were there when the file was written, unless that is too long ago."""
        return self.past.newest(time.time())

    def departed(self, service: str) -> tuple[Instance, ...]:
        """The instances that have left a service and are to be listed as disabled."""
        return self.past.departed(service, time.time())

    def see(self, service: str, own: SynapseService, entry: Entry, ids: Mapping[str, int]) -> None:
        """A service has these instances now, and its servers these ids. No I/O here."""
        self.past.see(service, own, entry, ids, time.time())
        self._seen = True
        self._news.set()

    def forget(self, service: str) -> None:
        """A service is HAProxy's no more: all its servers have left. No I/O here."""
        self.past.forget(service, time.time())
        self._news.set()

    async def run(self, aged: Callable[[frozenset[str]], None]) -> None:
        """Writes after each change and each `EVERY` seconds, for ever; not before anything was seen.

        `aged` is told the services of which servers have been gone for too long.
        """
        while True:
            try:
                async with asyncio.timeout(EVERY):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            if not self._seen:
                continue
            expired = self.past.expire(time.time())
            if expired:
                aged(expired)
            await until_done(f"writing {self._path}", self.flush, (OSError,), self._emit, 10.0)
            await asyncio.sleep(SPACING)

    async def flush(self) -> None:
        """Writes what was seen, if anything was. Raises OSError."""
        if self._seen:
            content = self.past.content(time.time())
            with self._trouble.watched():
                await asyncio.to_thread(self._write, content)

    def _write(self, content: Content) -> None:
        with self._turn:
            write_atomically(self._path, encode(content), MODE)
