"""The files on a real disk, after each picture."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from dockstack.events import Event
from dockstack.model import Catalog, Entry, Instance
from dockstack.runtime.latest import Latest
from dockstack.settings.synapse import HaproxySettings, SynapseService
from dockstack.synapse.files import output
from dockstack.synapse.files.output import Files
from dockstack.synapse.haproxy.document import Layout, Picture
from tests.waiting import eventually

LAYOUT = Layout(HaproxySettings.model_validate({"global": [], "defaults": []}), (), "host")


@dataclass
class Scene:
    root: Path
    said: list[str] = field(default_factory=list)
    remembered: list[str] = field(default_factory=list)
    pictures: Latest[Picture] = field(default_factory=Latest)
    files: Files | None = None

    @property
    def directory(self) -> Path:
        return self.root / "deep" / "out"

    @property
    def listing(self) -> Path:
        return self.root / "list"

    def tell(self, event: Event) -> None:
        self.said.append(str(event))

    def remember(self, service: str, own: SynapseService, entry: Entry) -> None:
        self.remembered.append(service)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Files]:
        self.files = Files(self.directory, self.listing, self.remember, self.tell)
        task = asyncio.create_task(self.files.run(self.pictures))
        try:
            yield self.files
        finally:
            task.cancel()
            await asyncio.wait((task,))

    def put(self, *unknown: str, off: tuple[str, ...] = (), **services: tuple[int, ...]) -> None:
        settings: dict[str, SynapseService] = {}
        for name in (*services, *unknown):
            plain: dict[str, Any] = {
                "discovery": {"method": "file", "directory": "/d", "path": "/a"},
                "file_output": {"disabled": name in off},
            }
            settings[name] = SynapseService.model_validate(plain)
        entries = {name: Entry(tuple(Instance("h", port) for port in ports)) for name, ports in services.items()}
        self.pictures.put(Picture(LAYOUT, MappingProxyType(settings), Catalog(MappingProxyType(entries))))

    def names(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()} if self.directory.exists() else set()

    def ports(self, service: str) -> str:
        path = self.directory / f"{service}.json"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_a_file_for_each_service_and_none_for_those_that_want_none(scene: Scene) -> None:
    before = os.umask(0o077)
    try:
        async with scene.running() as files:
            assert files.trouble == (f"the files in {scene.directory} are not written yet",)
            scene.put(a=(1,), b=(), c=(2,), off=("c",))
            await eventually(lambda: files.ready, "written")
            assert scene.names() == {"a.json", "b.json"}
            assert scene.ports("b") == "[]"
            assert (scene.directory / "a.json").stat().st_mode & 0o777 == 0o644
            assert files.serving
            assert not files.trouble
            scene.put(a=(1, 3), b=())
            await eventually(lambda: '"port":3' in scene.ports("a"), "the change")
            assert scene.remembered == ["a", "b", "a", "b"]
    finally:
        os.umask(before)


async def test_a_file_that_means_the_same_is_left_alone(scene: Scene) -> None:
    scene.directory.mkdir(parents=True)
    path = scene.directory / "b.json"
    path.write_text("[ ]\n")
    async with scene.running() as files:
        scene.put(a=(1,), b=())
        await eventually(lambda: files.ready, "written")
        inode = (scene.directory / "a.json").stat().st_ino
        scene.put(a=(1,), b=(), c=())
        await eventually(lambda: "c.json" in scene.names(), "the change")
        assert path.read_text() == "[ ]\n"
        assert (scene.directory / "a.json").stat().st_ino == inode


async def test_only_our_own_files_are_removed_in_this_run_and_the_next(scene: Scene) -> None:
    scene.directory.mkdir(parents=True)
    (scene.directory / "foreign.json").write_text("{}")
    async with scene.running() as files:
        scene.put(a=(1,), b=(2,), c=(3,))
        await eventually(lambda: files.ready, "written")
        scene.put(a=(1,), b=(2,), c=(3,), off=("c",))
        await eventually(lambda: "c.json" not in scene.names(), "a service that wants none any more")
    async with scene.running() as files:
        scene.put(a=(1,))
        await eventually(lambda: files.ready, "written")
        assert scene.names() == {"a.json", "foreign.json"}


async def test_the_file_of_a_service_that_comes_back_is_there_at_once(scene: Scene) -> None:
    async with scene.running():
        scene.put(a=(1,), b=(2,))
        await eventually(lambda: scene.names() == {"a.json", "b.json"}, "written")
        scene.put(b=(2,))
        await eventually(lambda: scene.names() == {"b.json"}, "removed")
        scene.put(a=(1,), b=(2,))
        await eventually(lambda: scene.names() == {"a.json", "b.json"}, "written again", 5)


async def test_a_file_of_which_nothing_is_known_stays(scene: Scene) -> None:
    async with scene.running() as files:
        scene.put(a=(1,), b=(2,))
        await eventually(lambda: files.ready, "written")
    async with scene.running() as files:
        scene.put("b", "c", a=(5,))
        await eventually(lambda: files.ready, "written")
        assert scene.names() == {"a.json", "b.json"}
        assert '"port":2' in scene.ports("b")


async def test_a_directory_that_cannot_be_written_is_told_and_tried_again(scene: Scene) -> None:
    (scene.root / "deep").write_text("in the way")
    async with scene.running() as files:
        scene.put(a=(1,))
        await eventually(lambda: not files.serving, "told")
        assert "are not what they should be" in files.trouble[0]
        (scene.root / "deep").unlink()
        await eventually(lambda: files.ready and files.serving, "tried again")
        assert scene.names() == {"a.json"}


async def test_a_file_that_somebody_else_has_changed_is_put_right(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "LOOK", 0.05)
    async with scene.running() as files:
        scene.put(a=(1,))
        await eventually(lambda: files.ready, "written")
        (scene.directory / "a.json").unlink()
        await eventually(lambda: scene.names() == {"a.json"}, "there again")


async def test_a_list_that_cannot_be_read_removes_nothing(scene: Scene) -> None:
    scene.listing.write_text("damaged")
    scene.directory.mkdir(parents=True)
    (scene.directory / "old.json").write_text("[]")
    async with scene.running() as files:
        scene.put(a=(1,))
        await eventually(lambda: files.ready, "written")
        assert scene.names() == {"a.json", "old.json"}
        assert any("none is removed" in text for text in scene.said)
