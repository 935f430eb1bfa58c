"""The heartbeat's file: touched as long as all is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from dockstack.events import Event
from dockstack.nerve.heartbeat import PACE, beat
from tests.waiting import eventually


@asynccontextmanager
async def beating(
    path: Callable[[], str | None], well: Callable[[], bool] = lambda: True, events: list[Event] | None = None
) -> AsyncIterator[None]:
    task = asyncio.ensure_future(beat(path, well, ([] if events is None else events).append, 0.02))
    yield
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


def age(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


def test_the_pace_keeps_the_promise() -> None:
    assert PACE <= 10


async def test_it_is_made_and_touched_but_not_while_something_is_stuck(tmp_path: Path) -> None:
    file, well, asked = tmp_path / "beat", True, 0

    def is_well() -> bool:
        nonlocal asked
        asked += 1
        return well

    async with beating(lambda: str(file), is_well):
        await eventually(file.exists, "the file")
        before = age(file)
        await eventually(lambda: age(file) > before, "the next touch")
        well, now = False, asked
        await eventually(lambda: asked > now, "the end of a touch that was on its way")
        before, now = age(file), asked
        await eventually(lambda: asked > now + 3, "some rounds")
        assert age(file) == before
        well = True
        await eventually(lambda: age(file) > before, "it goes on")


async def test_another_path_is_taken_over(tmp_path: Path) -> None:
    path: str | None = None
    async with beating(lambda: path):
        await asyncio.sleep(0.05)
        path = str(tmp_path / "one")
        await eventually((tmp_path / "one").exists, "the first file")
        path = str(tmp_path / "two")
        await eventually((tmp_path / "two").exists, "the second file")


async def test_what_cannot_be_touched_is_told_once(tmp_path: Path) -> None:
    events: list[Event] = []
    file = tmp_path / "missing" / "beat"
    async with beating(lambda: str(file), events=events):
        await eventually(lambda: bool(events), "the warning")
        await asyncio.sleep(0.1)
        assert [str(event) for event in events] == [
            f"heartbeat_path: {file} cannot be touched: No such file or directory"
        ]
        file.parent.mkdir()
        await eventually(file.exists, "the file")
