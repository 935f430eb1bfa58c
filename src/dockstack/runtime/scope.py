"""Tasks that serve a block of code, and end with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _BlockEnded(Exception):
    """Tells the task group to cancel its tasks: there is no one left to serve."""


@asynccontextmanager
async def servants() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose tasks are cancelled and awaited when the block ends.

    The block's own error leaves as it is. A task that fails cancels the block, and its error leaves in a group.
    """
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            try:
                yield tasks
            except Exception as error:  # noqa: BLE001 - raised again below, where the group cannot wrap it
                failure = error
            raise _BlockEnded
    except* _BlockEnded:
        pass
    if failure is not None:
        raise failure
