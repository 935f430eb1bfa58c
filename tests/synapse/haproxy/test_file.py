from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from dockstack.events import Event, Retrying
from dockstack.synapse.haproxy import file as file_module
from dockstack.synapse.haproxy.file import File
from dockstack.synapse.haproxy.model import Document, Section
from dockstack.synapse.haproxy.render import render
from tests.waiting import eventually


def document(word: str) -> Document:
    return Document((Section("global", (f"maxconn {word}",)), Section("defaults")))


def text(word: str) -> str:
    return render(document(word)).text


@pytest.fixture
def said() -> list[Event]:
    return []


@pytest.fixture
async def file(tmp_path: Path, said: list[Event]) -> AsyncIterator[File]:
    one = File(tmp_path / "haproxy.cfg", True, said.append)
    task = asyncio.create_task(one.run())
    yield one
    task.cancel()
    await asyncio.wait((task,))


async def test_it_follows_what_is_put(file: File) -> None:
    file.put(lambda: document("1"))
    await eventually(lambda: file.path.exists() and file.path.read_text() == text("1"), "written")
    file.put(lambda: document("2"))
    await eventually(lambda: file.text == text("2"), "written again")
    assert file.path.read_text() == text("2")


async def test_a_big_file_is_written_seldom_and_at_once_where_it_must_be(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "RATE", len(text("1").encode()))  # a second for each write
    monkeypatch.setattr(file_module, "LONGEST", 1.0)
    loop = asyncio.get_running_loop()
    file.put(lambda: document("1"))
    await eventually(lambda: file.text == text("1"), "the first, at once")
    began = loop.time()
    file.put(lambda: document("2"))
    await eventually(lambda: file.text == text("2"), "the second")
    assert loop.time() - began > 0.8
    file.put(lambda: document("3"))
    await file.flush()
    assert file.path.read_text() == text("3")


async def test_what_is_not_permitted_leaves_the_file_as_it_is(file: File) -> None:
    asked: list[str] = []

    async def permit(content: str) -> bool:
        asked.append(content)
        if content == text("2"):
            file.put(lambda: document("3"))  # what comes while the last one is looked at is not lost
        return content != text("2")

    file.permit = permit
    file.put(lambda: document("1"))
    await eventually(lambda: file.text == text("1"), "the first")
    file.put(lambda: document("1"))
    file.put(lambda: document("2"))
    await eventually(lambda: file.text == text("3"), "the third")
    assert asked == [text("1"), text("2"), text("3")]


async def test_of_a_burst_the_newest_only_is_worked_out(file: File) -> None:
    worked: list[int] = []

    def work(number: int) -> Document:
        worked.append(number)
        return document(str(number))

    for number in range(100):
        file.put(partial(work, number))
    await eventually(lambda: file.text == text("99"), "the newest")
    assert worked == [99]


async def test_what_was_put_before_does_not_come_over_what_is_written(file: File) -> None:
    for _ in range(20):
        file.put(lambda: document("old"))
        await file.write("new\n")
        await asyncio.sleep(0)
        assert file.path.read_text() == "new\n"
    await asyncio.sleep(file_module.SPACING * 1.5)
    assert file.path.read_text() == "new\n"


async def test_a_write_that_was_given_up_does_not_come_over_a_later_one(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread may begin only after the later one is through."""
    waiting: list[tuple[int, tuple[bytes, ...]]] = []
    real = file._write_in_turn

    def late(number: int, chunks: tuple[bytes, ...]) -> None:
        if chunks == (b"old\n",):
            waiting.append((number, chunks))
        else:
            real(number, chunks)

    monkeypatch.setattr(file, "_write_in_turn", late)
    await file.write("old\n")
    await file.write("new\n")
    real(*waiting[0])
    assert file.path.read_text() == "new\n"
    assert file.text == "new\n"


async def test_a_disk_that_refuses_is_told_and_tried_again(file: File, said: list[Event]) -> None:
    file.path.mkdir()
    file.put(lambda: document("1"))
    await eventually(lambda: any(isinstance(one, Retrying) for one in said), "told")
    assert file.trouble == (f"{file.path} cannot be written: Is a directory",)
    file.path.rmdir()
    await eventually(lambda: file.path.is_file() and file.path.read_text() == text("1"), "written in the end")
    assert not file.trouble


async def test_a_flush_writes_what_was_put(file: File) -> None:
    file.put(lambda: document("1"))
    await file.flush()
    assert file.path.read_text() == text("1")


async def test_a_change_by_somebody_else_is_seen_and_mended(file: File) -> None:
    assert await file.intact()
    await file.write("ours\n")
    assert await file.intact()
    file.path.write_text("theirs\n")
    assert not await file.intact()
    await file.write("ours\n")
    assert file.path.read_text() == "theirs\n"  # as far as it knows there is nothing to do
    file.forget()
    await file.write("ours\n")
    assert file.path.read_text() == "ours\n"
    file.path.unlink()
    assert not await file.intact()


async def test_reading(file: File) -> None:
    assert await file.read() is None
    file.path.write_bytes(b"\xff\xfe")
    assert await file.read() is None
    file.path.write_text("x")
    assert await file.read() == "x"
