"""SIGHUP: what is taken over, and what a fault leaves as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dockstack.errors import ConfigurationError, Problem
from dockstack.events import Event
from dockstack.registry.pool import Pool
from dockstack.runtime.latest import Latest
from dockstack.settings.common import StatsdSettings
from dockstack.settings.synapse import FileOutputSettings, HaproxySettings, SynapseSettings
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.reconfigure import Reconfigured
from dockstack.synapse.snapshot import SnapshotFile, fingerprints
from dockstack.synapse.world import World
from tests.waiting import eventually


def settings(*services: str, **top: Any) -> SynapseSettings:
    own = {"discovery": {"method": "base"}, "default_servers": [{"host": "10.0.0.1", "port": 80}]}
    ports = {name: 80 + number for number, name in enumerate(services)}
    return SynapseSettings.model_validate(
        {
            "services": {
                name: {**own, "haproxy": {"port": port, "listen": ["mode http"]}} for name, port in ports.items()
            },
            "haproxy": {"global": [], "defaults": [], "do_writes": False, "do_socket": False, **top},
        }
    )


def layout(top: HaproxySettings | None) -> Layout:
    assert top is not None
    return Layout(top, (), "host")


@dataclass
class Scene:
    """A world at work whose settings are read again at every `hangup`."""

    pictures: Latest[Picture]
    hangup: asyncio.Event = field(default_factory=asyncio.Event)
    fresh: SynapseSettings | ConfigurationError = field(default_factory=lambda: settings("web"))
    said: list[str] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        self.said.append(str(event))

    def read(self) -> SynapseSettings:
        if isinstance(self.fresh, ConfigurationError):
            raise self.fresh
        return self.fresh

    def services(self) -> list[str]:
        picture = self.pictures.peek()
        return [] if picture is None else list(picture.services)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    first = settings("web")
    assert first.haproxy is not None
    scene = Scene(Latest())
    keeper = SnapshotFile(tmp_path / "s.json", fingerprints(first), scene.tell)
    async with Pool(scene.tell) as pool, asyncio.TaskGroup() as tasks:
        world = World(layout(first.haproxy), first, pool, scene.tell)
        one = Reconfigured(first, scene.read, layout, world, keeper, scene.tell)
        work = [
            tasks.create_task(world.follow(scene.pictures, 1.0)),
            tasks.create_task(one.run(scene.hangup, scene.pictures, 1.0)),
        ]
        await eventually(lambda: scene.services() == ["web"], "the first picture")
        yield scene
        for task in work:
            task.cancel()


async def test_other_settings_are_taken_over(scene: Scene) -> None:
    for services in (("web", "db"), ("db",), ("db", "web", "mq")):
        scene.fresh = settings(*services)
        scene.hangup.set()
        await eventually(lambda now=services: tuple(scene.services()) == now, "taken over")  # type: ignore[misc]
    assert scene.said.count("the configuration was reloaded") == 3


@pytest.mark.parametrize(
    ("fresh", "why"),
    [
        (ConfigurationError(Problem("s.yaml:3", "unknown key")), "s.yaml:3: unknown key"),
        (
            SynapseSettings.model_validate({"services": {}, "file_output": {"output_directory": "/x"}}),
            "only a restart of synapse changes which outputs are",
        ),
        (settings("web", extra_sections={"backend x": ["block if y"]}, defaults=["reqadd x"]), "reqadd"),
    ],
)
async def test_a_fault_leaves_the_old_ones_and_is_told(
    scene: Scene, fresh: SynapseSettings | ConfigurationError, why: str
) -> None:
    before = scene.pictures.peek()
    scene.fresh = fresh
    scene.hangup.set()
    await eventually(lambda: any("was not reloaded, the old one stays" in one for one in scene.said), "told")
    assert any(why in one for one in scene.said)
    assert scene.pictures.peek() is before
    scene.fresh = settings("db")
    scene.hangup.set()
    await eventually(lambda: scene.services() == ["db"], "the next good ones are taken")


async def test_what_only_a_restart_changes_is_named_each_time(scene: Scene) -> None:
    other = settings("db", restart_interval=7, do_checks=True)
    beside = {"file_output": FileOutputSettings(output_directory="/x"), "statsd": StatsdSettings(port=1)}
    scene.fresh = other.model_copy(update=beside)
    for count in (1, 2):
        scene.hangup.set()
        await eventually(lambda now=count: scene.said.count("the configuration was reloaded") == now, "taken over")  # type: ignore[misc]
    text = "only a restart of synapse changes haproxy.do_checks, haproxy.restart_interval, file_output, statsd"
    assert scene.said.count(text) == 2
    assert scene.services() == ["db"]
