"""A file that is touched as long as the checks make progress: what watches over nerve looks at its age."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from dockstack.events import Emit, Warn
from dockstack.runtime.loops import beats

PACE = 5.0
"""Seconds between two touches; SmartStack's nerve promises ten at most."""


async def beat(path: Callable[[], str | None], well: Callable[[], bool], emit: Emit, pace: float = PACE) -> None:
    """Touches the file each `pace` seconds for ever, but not while `well` says no; None: there is no file.

    A file that cannot be touched is told, once for each reason.
    """
    said: str | None = None
    async for _ in beats(pace):
        now = path()
        if now is None or not well():
            continue
        try:
            await asyncio.to_thread(Path(now).touch)
        except OSError as error:
            if said != (said := f"heartbeat_path: {now} cannot be touched: {error.strerror}"):
                emit(Warn(said))
        else:
            said = None
