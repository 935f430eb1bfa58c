"""What is told of the writes of one service."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dockstack.errors import RegistryUnavailable
from dockstack.events import Event
from dockstack.model import Instance
from dockstack.nerve.events import Renewed, Written
from dockstack.nerve.timed import Timed
from dockstack.registry import Locator, NodeKind, Registration
from dockstack.registry.codec import encode
from dockstack.registry.memory import World

LOCATOR = Locator("memory")
WEB = Registration("web", "/web", Instance("10.0.0.1", 80, "i"))


class Scene:
    """An announcer on a world in memory, and what it has told."""

    def __init__(self, world: World, announcer: Timed, told: list[Event]) -> None:
        self.world = world
        self.announcer = announcer
        self.told = told

    def new(self) -> list[Event]:
        """What was told since the last time, without the seconds."""
        events = [replace(one, seconds=0) if isinstance(one, Written) else one for one in self.told]
        self.told.clear()
        return events


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    world, told = World(), list[Event]()
    async with world.open(lambda event: None) as registry:
        yield Scene(world, Timed(registry, LOCATOR, told.append), told)


async def test_a_node_is_created_saved_and_deleted(scene: Scene) -> None:
    lease = await scene.announcer.put(WEB)
    assert scene.announcer.holds(lease)
    assert scene.new() == [Written(LOCATOR, "/web", "create", 0)]
    lease = await scene.announcer.put(replace(WEB, instance=replace(WEB.instance, weight=7)))
    assert scene.new() == [Written(LOCATOR, "/web", "save", 0)]
    await scene.announcer.remove(lease)
    assert scene.new() == [Written(LOCATOR, "/web", "delete", 0)]
    await scene.announcer.put(WEB)
    assert scene.new() == [Written(LOCATOR, "/web", "create", 0)]


async def test_an_instance_in_a_name_tells_its_size(scene: Scene) -> None:
    encoded = replace(WEB, path_encoding=True)
    await scene.announcer.put(encoded)
    size = len(base64.urlsafe_b64encode(encode(encoded)))
    assert scene.new() == [Written(LOCATOR, "/web", "create", 0, size)]


async def test_the_same_again_is_a_renewal_of_a_node_that_stays(scene: Scene) -> None:
    lasting = replace(WEB, kind=NodeKind.PERSISTENT)
    for _ in range(2):
        await scene.announcer.put(lasting)
    assert scene.new()[1:] == [Renewed(LOCATOR, "/web", done=True)]
    scene.world.break_()
    with pytest.raises(RegistryUnavailable):
        await scene.announcer.put(lasting)
    assert scene.new() == [Renewed(LOCATOR, "/web", done=False)]


async def test_what_others_deleted_is_created_and_not_renewed(scene: Scene) -> None:
    for kind in (NodeKind.PERSISTENT, NodeKind.EPHEMERAL):
        lease = await scene.announcer.put(replace(WEB, kind=kind))
        scene.world.delete("/web", lease.node)
        scene.new()
        await scene.announcer.put(replace(WEB, kind=kind))
        assert scene.new() == [Written(LOCATOR, "/web", "create", 0)]
