"""Tasks that serve a block of code, and end with it; and a block that tells of its beginning and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic

from dockstack.events import Emit, Ended, Started


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


@contextmanager
def living(emit: Emit) -> Iterator[None]:
    """Tells the start of the daemon's life and its end."""
    began = monotonic()
    emit(Started())
    try:
        yield
    except Exception as error:
        emit(Ended(monotonic() - began, error))
        raise
    emit(Ended(monotonic() - began))
