"""Files that live as long as their owner's lock."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from dockstack.errors import RegistryUnavailable
from dockstack.registry.file import locks


def test_a_file_lives_while_its_owner_holds_it(tmp_path: Path) -> None:
    held = locks.create(tmp_path, ".tmp", "a", b"data")
    seen = locks.look(tmp_path / "a")
    assert seen is not None
    assert seen.data == b"data"
    assert not locks.is_dead(tmp_path / "a")
    assert locks.is_there(tmp_path, "a", held)
    assert os.listdir(tmp_path) == ["a"]
    held.close()
    held.close()
    assert locks.look(tmp_path / "a") is None
    assert locks.is_dead(tmp_path / "a")


def test_readers_do_not_take_each_other_for_the_owner(tmp_path: Path) -> None:
    locks.create(tmp_path, ".tmp", "a", b"").close()
    with (tmp_path / "a").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert locks.is_dead(tmp_path / "a")


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), os.mkfifo, lambda p: None], ids=["directory", "fifo", "missing"])
def test_what_is_no_plain_file_is_neither_live_nor_dead(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "a")
    assert locks.look(tmp_path / "a") is None
    assert not locks.is_dead(tmp_path / "a")


def test_data_is_read_again_only_when_it_is_new(tmp_path: Path) -> None:
    first = locks.create(tmp_path, ".tmp", "a", b"one")
    seen = locks.look(tmp_path / "a")
    assert locks.look(tmp_path / "a", seen) is seen
    second = locks.create(tmp_path, ".tmp", "a", b"two")
    again = locks.look(tmp_path / "a", seen)
    assert again is not None
    assert again.data == b"two"
    assert not locks.is_there(tmp_path, "a", first)
    first.close()
    second.close()


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    held = locks.create(tmp_path, ".tmp", "a", b"x" * (locks.LARGEST + 1))
    with pytest.raises(ValueError, match="more than"):
        locks.look(tmp_path / "a")
    held.close()


def test_a_reader_never_misses_a_file_that_is_replaced_again_and_again(tmp_path: Path) -> None:
    held = locks.create(tmp_path, ".tmp", "a", b"0")
    stop = threading.Event()

    def replace() -> None:
        nonlocal held
        number = 0
        while not stop.is_set():
            number += 1
            new = locks.create(tmp_path, f".tmp{number}", "a", b"%d" % number)
            held.close()
            held = new

    writer = threading.Thread(target=replace)
    writer.start()
    seen: set[bytes] = set()
    try:
        end = time.monotonic() + 20
        while len(seen) < 100 and time.monotonic() < end:
            file = locks.look(tmp_path / "a")
            assert file is not None
            seen.add(file.data)
    finally:
        stop.set()
        writer.join()
        held.close()
    assert len(seen) == 100


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        locks.create(tmp_path, ".tmp", "a", b"")
    assert os.listdir(tmp_path) == ["a"]


def test_a_directory_where_locks_work_is_taken(tmp_path: Path) -> None:
    locks.refuse_without_locks(tmp_path)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    locks.refuse_without_locks(tmp_path)
    os.close(descriptor)


def test_a_directory_without_locks_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(RegistryUnavailable, match=r"flock does not work .*No locks available.* local file system"):
        locks.refuse_without_locks(tmp_path)
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    with pytest.raises(RegistryUnavailable, match="two can hold the same lock"):
        locks.refuse_without_locks(tmp_path)


async def test_one_writes_at_a_time_and_numbers_never_come_back(tmp_path: Path) -> None:
    numbers: list[int] = []
    inside = 0

    async def write() -> None:
        nonlocal inside
        async with locks.writing(tmp_path) as counter:
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            numbers.append(locks.next_number(counter, lambda: 5))
            inside -= 1

    await asyncio.gather(*(write() for _ in range(20)))
    assert sorted(numbers) == list(range(5, 25))
    (tmp_path / locks.MUTEX).write_text("")
    async with locks.writing(tmp_path) as counter:
        assert locks.next_number(counter, lambda: 77) == 77


async def test_a_writer_that_never_ends_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.02)
    async with locks.writing(tmp_path):
        with pytest.raises(RegistryUnavailable, match="locked by another process"):
            async with locks.writing(tmp_path):
                pass
