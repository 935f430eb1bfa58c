"""`dockstack demo`: the whole product on one machine in a quarter of a minute, without a server, root or Docker."""

from __future__ import annotations

import asyncio
import signal
import sys

from dockstack.demo.stage import Missed, Stage
from dockstack.demo.story import tell
from dockstack.errors import DockStackError


def run(stay: bool = False) -> int:
    """Plays the story and returns the exit status: 0, 1 when a step did not happen, 130 when it was interrupted.

    With `stay` everything keeps running afterwards until Ctrl-C.
    """
    try:
        return asyncio.run(_play(stay))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\ninterrupted; everything that the demo started has been stopped", file=sys.stderr)
        return 130


async def _play(stay: bool) -> int:
    playing = asyncio.current_task()
    if playing is not None:
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job has SIGINT ignored
            asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    try:
        async with Stage() as stage:
            return await tell(stage, stay)
    except (Missed, DockStackError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
