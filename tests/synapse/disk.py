"""A disk that takes its time for one file."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest


@dataclass
class Disk:
    """The first fsync waits until it is `free`; the others do not."""

    begun: bool = False
    free: threading.Event = field(default_factory=threading.Event)

    def free_soon(self) -> None:
        """Time enough for another write to come first, where nothing keeps it from that."""
        asyncio.get_running_loop().call_later(0.2, self.free.set)


@asynccontextmanager
async def slow_disk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Disk]:
    """At the end the first file is written, too."""
    disk = Disk()
    plain = os.fsync

    def fsync(handle: int) -> None:
        if not disk.begun:
            disk.begun = True
            disk.free.wait(30)
        plain(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    try:
        yield disk
    finally:
        disk.free.set()
        await asyncio.get_running_loop().shutdown_default_executor()
