"""Changes of files, made in all the ways that editors, deployments and Kubernetes have."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dockstack.events import Event
from dockstack.runtime import changes
from dockstack.runtime.changes import Sources, contents, names_on_the_way, tell_changes
from tests.waiting import eventually


@asynccontextmanager
async def told(*paths: Path, events: list[Event] | None = None) -> AsyncIterator[Callable[[], int]]:
    """How many changes were told until now."""
    count, listening = 0, asyncio.Event()

    def asked() -> tuple[Path, ...]:
        listening.set()
        return paths

    async def follow() -> None:
        nonlocal count
        async for _ in changes.changes(asked, ([] if events is None else events).append):
            count += 1

    looked = threading.Event()

    def look(wanted: Iterable[Path]) -> changes.Mark:
        found = contents(wanted)
        looked.set()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "contents", look)
        task = asyncio.ensure_future(follow())
        await listening.wait()
        await eventually(looked.is_set, "the first look")
    yield lambda: count
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


def renamed_over(file: Path, text: str) -> None:
    other = file.with_name(".nerve.json.swp")
    other.write_text(text)
    other.rename(file)


def away_and_back(file: Path, text: str) -> None:
    """As an editor does that keeps a backup."""
    file.rename(f"{file}~")
    file.write_text(text)


def relinked(file: Path, text: str) -> None:
    other = file.with_name(f"other-{text}")
    other.write_text(text)
    link = file.with_name(".link")
    link.symlink_to(other.name)
    link.rename(file)


@pytest.mark.parametrize("write", [in_place, renamed_over, away_and_back, relinked])
async def test_each_way_to_write_a_file_is_one_change(write: Callable[[Path, str], None], tmp_path: Path) -> None:
    file = tmp_path / "nerve.json"
    file.write_text("old")
    async with told(file) as count:
        for number, text in enumerate(("one", "two", "three"), 1):
            write(file, text)
            await eventually(lambda now=number: count() == now, f"change {number}")  # type: ignore[misc]
        await asyncio.sleep(2 * changes.SETTLED)
        assert count() == 3


async def test_a_mounted_config_map_is_swapped(tmp_path: Path) -> None:
    """`nerve.json` is a link to `..data/nerve.json`, and `..data` one to the directory of the present version."""
    mount = tmp_path / "mount"
    mount.mkdir()

    def publish(version: str) -> None:
        fresh = mount / f"..{version}"
        fresh.mkdir()
        (fresh / "nerve.json").write_text(version)
        (mount / "..data_tmp").symlink_to(fresh.name)
        old = mount / "..data"
        before = old.readlink() if old.is_symlink() else None
        (mount / "..data_tmp").rename(old)
        if before is not None:
            (mount / before / "nerve.json").unlink()
            (mount / before).rmdir()

    publish("v1")
    (mount / "nerve.json").symlink_to("..data/nerve.json")
    async with told(mount / "nerve.json") as file, told(mount) as directory:
        for number, version in enumerate(("v2", "v3"), 1):
            publish(version)
            await eventually(lambda now=number: file() == directory() == now, version)  # type: ignore[misc]


async def test_a_directory_on_the_way_is_exchanged(tmp_path: Path) -> None:
    for name in ("blue", "green"):
        (tmp_path / name / "conf").mkdir(parents=True)
        (tmp_path / name / "conf" / "nerve.json").write_text(name)
    (tmp_path / "now").symlink_to(tmp_path / "blue")
    async with told(tmp_path / "now" / "conf" / "nerve.json") as count:
        (tmp_path / "next").symlink_to(tmp_path / "green")
        (tmp_path / "next").rename(tmp_path / "now")
        await eventually(lambda: count() == 1, "the other directory")
        (tmp_path / "green" / "conf").rename(tmp_path / "green" / "old")
        await eventually(lambda: count() == 2, "the directory is gone")
        (tmp_path / "green" / "old").rename(tmp_path / "green" / "conf")
        await eventually(lambda: count() == 3, "the directory is back")


async def test_files_of_a_directory_come_change_and_go(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    async with told(tmp_path) as count:
        file.write_text("a: 1")
        await eventually(lambda: count() == 1, "a new file")
        file.write_text("a: 2")
        await eventually(lambda: count() == 2, "a changed file")
        file.unlink()
        await eventually(lambda: count() == 3, "one file less")


async def test_what_is_no_change_is_not_told(tmp_path: Path) -> None:
    file, directory = tmp_path / "nerve.json", tmp_path / "services"
    directory.mkdir()
    file.write_text("same")
    async with told(file, directory) as count:
        file.write_text("same")
        file.touch()
        (tmp_path / "other.json").write_text("of no interest")
        (directory / "README").write_text("of no interest")
        (directory / ".web.yaml").write_text("of no interest")
        await asyncio.sleep(3 * changes.SETTLED)
        assert count() == 0


async def test_what_happens_beside_a_file_wakes_nobody(tmp_path: Path) -> None:
    from asyncinotify import Inotify

    file = tmp_path / "synapse.json"
    file.write_text("{}")
    with Inotify() as inotify:
        assert changes._watch(inotify, [file])
        (tmp_path / "temporary").write_text("x")
        (tmp_path / "temporary").rename(tmp_path / "haproxy.cfg")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(inotify.get(), 0.1)
        file.write_text("{ }")
        assert await asyncio.wait_for(inotify.get(), 5)


async def test_many_writes_in_a_row_are_one_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "SETTLED", 1.0)  # 0.2 s may pass between two writes on a busy machine
    file = tmp_path / "nerve.json"
    file.write_text("old")
    async with told(file) as count:
        for number in range(20):
            file.write_text(str(number))
            await asyncio.sleep(0.02)
        await eventually(lambda: count() == 1, "the change")
        await asyncio.sleep(2 * changes.SETTLED)
        assert count() == 1


async def test_a_writer_without_rest_does_not_hide_its_changes(tmp_path: Path) -> None:
    file = tmp_path / "nerve.json"
    file.write_text("old")
    async with told(file) as count:
        loop = asyncio.get_running_loop()
        end = loop.time() + 2 * changes.LONGEST
        while not count() and loop.time() < end:
            file.write_text(str(loop.time()))
            await asyncio.sleep(changes.SETTLED / 4)
        assert count() == 1


async def test_a_file_that_does_not_exist_yet(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "nerve.json"
    async with told(file) as count:
        file.parent.mkdir(parents=True)
        file.write_text("there")
        await eventually(lambda: count() == 1, "the file")
        await asyncio.sleep(2 * changes.SETTLED)
        file.write_text("changed")
        await eventually(lambda: count() == 2, "its change")


async def test_without_inotify_it_looks_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncinotify

    def none_left(**_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncinotify, "Inotify", none_left)
    monkeypatch.setattr(changes, "UNWATCHED", 0.05)
    file = tmp_path / "nerve.json"
    file.write_text("old")
    events: list[Event] = []
    async with told(file, events=events) as count:
        file.write_text("new")
        await eventually(lambda: count() == 1, "the change")
        assert len(events) == 1


async def test_what_no_event_tells_is_seen_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that keeps the file open: its writes alone are no events that are waited for."""
    monkeypatch.setattr(changes, "UNSEEN", 0.05)
    file = tmp_path / "nerve.json"
    file.write_text("old")
    with file.open("a") as writer:
        async with told(file) as count:
            writer.write("more")
            writer.flush()
            await eventually(lambda: count() == 1, "the change")


@dataclass(frozen=True)
class Read:
    text: str
    service_conf_dir: str | None = None


@pytest.mark.parametrize("signalled", [False, True])
async def test_what_was_read_at_a_signal_is_not_told_again(
    signalled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, changed, looked = tmp_path / "nerve.yaml", asyncio.Event(), threading.Event()
    file.write_text("one")
    found: list[bool] = []
    events: list[Event] = []

    class Sounded(Sources[Read]):
        def unread(self) -> bool:
            found.append(super().unread())
            return found[-1]

    def look(wanted: Iterable[Path]) -> changes.Mark:
        mark = contents(wanted)
        looked.set()
        return mark

    monkeypatch.setattr(changes, "contents", look)
    sources = Sounded(file, None, lambda: Read(file.read_text()))
    task = asyncio.ensure_future(tell_changes(sources, changed, events.append))
    await eventually(looked.is_set, "the first look")
    file.write_text("two")
    if signalled:
        assert sources.read().text == "two"
    await eventually(lambda: len(found) == 1, "the change is seen")
    file.write_text("three")
    await eventually(lambda: len(found) == 2, "the next change is seen")
    await eventually(changed.is_set, "it is told")
    assert found == [not signalled, True]
    task.cancel()
    await asyncio.wait({task})


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert contents([tmp_path / "pipe"]) == ((str(tmp_path / "pipe"), "no file"),)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert set(names_on_the_way(tmp_path / "a")) >= {(tmp_path, "a"), (tmp_path, "b")}
    assert contents([tmp_path / "a"])[0][1] == "Too many levels of symbolic links"
