"""The state file on a real disk."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dockstack.events import Event
from dockstack.model import Entry, Instance
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.haproxy import statefile
from dockstack.synapse.haproxy.statefile import StateFile
from tests.synapse.disk import slow_disk
from tests.waiting import eventually

OWN = SynapseService.model_validate({"discovery": {"method": "base"}})
A, B = Instance("h", 80, "a"), Instance("h", 80, "b")


def silent(event: Event) -> None:
    raise AssertionError(str(event))


@asynccontextmanager
async def running(state: StateFile, aged: list[frozenset[str]]) -> AsyncIterator[None]:
    task = asyncio.create_task(state.run(aged.append))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


def servers(path: Path) -> dict[str, int]:
    whole = json.loads(path.read_text()) if path.exists() else {}
    return {name: one["timestamp"] for name, one in whole.get("svc", {}).items() if "timestamp" in one}


async def test_it_is_written_after_a_change_and_unchanged_for_its_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statefile, "EVERY", 0.05)
    monkeypatch.setattr(statefile, "SPACING", 0.05)
    path = tmp_path / "state.json"
    state = StateFile(path, 100, silent)
    state.load()
    async with running(state, []):
        await asyncio.sleep(0.2)
        assert not path.exists()  # nothing was seen: an old file would be emptied
        state.see("svc", OWN, Entry((A,)), {"a_h:80": 5})
        await eventually(lambda: "a_h:80" in servers(path), "the change")
        assert abs(servers(path)["a_h:80"] - time.time()) < 60
        inode = path.stat().st_ino
        await eventually(lambda: path.stat().st_ino != inode, "written again")


async def test_its_text_is_made_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[threading.Thread] = []

    def dumps(*given: Any, **more: Any) -> str:
        made.append(threading.current_thread())
        return plain(*given, **more)

    plain = json.dumps
    state = StateFile(tmp_path / "state.json", 100, silent)
    state.see("svc", OWN, Entry((A,)), {})
    monkeypatch.setattr(json, "dumps", dumps)
    await state.flush()
    assert made
    assert threading.main_thread() not in made
    assert "a_h:80" in servers(tmp_path / "state.json")


async def test_a_write_that_was_given_up_does_not_come_behind_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateFile(tmp_path / "state.json", 100, silent)
    state.see("svc", OWN, Entry((A,)), {})
    async with slow_disk(monkeypatch) as disk:
        first = asyncio.create_task(state.flush())
        await eventually(lambda: disk.begun, "it is written")
        first.cancel()
        await asyncio.wait((first,))
        state.see("svc", OWN, Entry((A, B)), {})
        disk.free_soon()
        await state.flush()
    assert servers(tmp_path / "state.json").keys() == {"a_h:80", "b_h:80"}


async def test_servers_that_are_gone_for_too_long_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statefile, "EVERY", 0.05)
    monkeypatch.setattr(statefile, "SPACING", 0.05)
    path = tmp_path / "state.json"
    state = StateFile(path, 0.3, silent)
    aged: list[frozenset[str]] = []
    state.see("svc", OWN, Entry((A, B)), {})
    state.see("svc", OWN, Entry((B,)), {})
    assert state.departed("svc") == (A,)
    async with running(state, aged):
        await eventually(lambda: aged == [frozenset({"svc"})], "told")
        await eventually(lambda: set(servers(path)) == {"b_h:80"}, "forgotten")
    assert state.departed("svc") == ()


def test_a_file_that_cannot_be_read_is_empty_and_told(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for damage in (b"\xff", b"{"):
        path.write_bytes(damage)
        said: list[Event] = []
        state = StateFile(path, 100, said.append)
        state.load()
        assert len(said) == 1
        assert str(path) in str(said[0])
        assert state.newest() == {}


async def test_a_disk_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statefile, "SPACING", 0.01)
    said: list[Event] = []
    path = tmp_path / "not-yet" / "state.json"
    state = StateFile(path, 100, said.append)
    async with running(state, []):
        state.see("svc", OWN, Entry((A,)), {})
        await eventually(lambda: bool(said), "told")
        assert state.trouble == (f"{path} cannot be written: No such file or directory",)
        path.parent.mkdir()
        await eventually(lambda: state.trouble == (), "written in the end")
        assert servers(path).keys() == {"a_h:80"}
