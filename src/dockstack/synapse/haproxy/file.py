"""haproxy.cfg behind the changes: written atomically in a thread, the newest document only, never in the way of one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from dockstack.events import Emit
from dockstack.runtime.files import Trouble, write_atomically
from dockstack.runtime.loops import spaced, until_done
from dockstack.synapse.haproxy.model import Document
from dockstack.synapse.haproxy.render import Rendered, render

SPACING = 0.1
"""Seconds between two writes that nobody waits for, at least: a burst of changes is a few writes."""

RATE = 250_000
"""Bytes a second that are written in the long run, for changes that nobody waits for: with a thousand services each
write is a megabyte, and costs more than the change."""

LONGEST = 5.0
"""Seconds between two such writes at most."""

MODE = 0o644


class File:
    """The configuration file on disk. `marked`: it carries the mark of its structure.

    `permit` is asked for each text that was put before it is written; where it refuses, the file stays as it is.
    """

    def __init__(self, path: Path, marked: bool, emit: Emit) -> None:
        self.path = path
        self.permit: Callable[[str], Awaitable[bool]] | None = None
        self._trouble = Trouble(path)
        self._marked = marked
        self._emit = emit
        self._pending: Callable[[], Document] | None = None
        self._news = asyncio.Event()
        self._rendered: Rendered | None = None
        self._held: tuple[bytes, ...] | None = None
        self._turn = threading.Lock()
        self._asked = 0
        self._written = 0

    @property
    def known(self) -> bool:
        """Whether it has been written, and nobody else is known to have changed it since."""
        return self._held is not None

    @property
    def text(self) -> str | None:
        """What was written last; None when nothing was, or when somebody else has changed it."""
        return None if self._held is None else b"".join(self._held).decode()

    @property
    def trouble(self) -> tuple[str, ...]:
        """Why the file on disk is not as it is wanted, if the disk refuses it."""
        return (self._trouble.said,) if self._trouble.said else ()

    def put(self, document: Callable[[], Document]) -> None:
        """The file is to hold this document, soon; it is worked out only when its turn comes. No I/O here."""
        self._pending = document
        self._news.set()

    def render(self, document: Document) -> Rendered:
        """The document as text and mark; what has not changed since the last time is not rendered again."""
        self._rendered = render(document, self._rendered, self._marked)
        return self._rendered

    async def write(self, text: str) -> None:
        """The file holds the text when this returns, and what was put before is dropped. Raises OSError."""
        self._pending = None
        await self._replace((text.encode(),))

    async def _replace(self, chunks: tuple[bytes, ...]) -> None:
        self._asked += 1
        await asyncio.to_thread(self._write_in_turn, self._asked, chunks)

    def _write_in_turn(self, number: int, chunks: tuple[bytes, ...]) -> None:
        with self._turn:
            if number < self._written:  # a write that was given up and ran on in its thread
                return
            if self._held is None or not _same(chunks, self._held):
                with self._trouble.watched():
                    write_atomically(self.path, chunks, MODE)
            self._held = chunks
            self._written = number

    async def flush(self) -> None:
        """Writes what was put last, if it has not been written yet and is permitted. Raises OSError."""
        if self._pending is None:
            return
        document, self._pending = self._pending, None
        rendered = self.render(document())
        if self.permit is None or rendered.text == self.text or await self.permit(rendered.text):
            await self._replace(rendered.chunks)

    async def read(self) -> str | None:
        """What is on disk now, or None when it cannot be read as text."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> str | None:
        with self._turn:
            try:
                return self.path.read_text("utf-8")
            except (OSError, UnicodeDecodeError):
                return None

    async def intact(self) -> bool:
        """Whether the file on disk is what was written last; true as long as nothing was."""
        return await asyncio.to_thread(self._intact)

    def _intact(self) -> bool:
        with self._turn:
            try:
                return self._held is None or self.path.read_bytes() == b"".join(self._held)
            except OSError:
                return False

    def forget(self) -> None:
        """Somebody else has changed the file: the next write takes place whatever the text."""
        self._held = None

    async def run(self) -> None:
        """Writes what was put, the newest only, for ever; a disk that refuses is tried again."""
        async for _ in spaced(self._news, self._spacing):
            await until_done(f"writing {self.path}", self._flush_or_keep, (OSError,), self._emit, 5.0)

    def _spacing(self) -> float:
        size = sum(map(len, self._held or ()))
        return min(LONGEST, max(SPACING, size / RATE))

    async def _flush_or_keep(self) -> None:
        document = self._pending
        try:
            await self.flush()
        except OSError:
            self._pending = self._pending or document
            raise


def _same(one: tuple[bytes, ...], other: tuple[bytes, ...]) -> bool:
    return one == other or (len(one) != len(other) and b"".join(one) == b"".join(other))
