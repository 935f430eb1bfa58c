"""Waiting for a condition with a limit, instead of sleeping for luck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], what: str, limit: float = 30.0, pause: float = 0.01) -> None:
    """Blocks until the condition holds, asked every `pause` seconds; TimeoutError says `what` after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {limit:g} s")
        time.sleep(pause)


async def eventually(condition: Callable[[], bool], what: str, limit: float = 30.0, pause: float = 0.005) -> None:
    """As `wait_until`, while the event loop goes on."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    while not condition():
        if loop.time() > end:
            raise TimeoutError(f"{what}: not within {limit:g} s")
        await asyncio.sleep(pause)
