"""What is the memory registry's own, beyond the contract that every registry passes: its world and its faults."""

from __future__ import annotations

import asyncio

import pytest

from dockstack.errors import RegistryUnavailable
from dockstack.events import Event
from dockstack.model import Instance
from dockstack.registry import Locator, NodeKind, Registration, open_registry
from dockstack.registry.codec import NerveDecoder
from dockstack.registry.memory import World

REGISTRATION = Registration("a", "/p", Instance("10.0.0.1", 80, "i"))


def quiet(event: Event) -> None:
    pass


async def test_each_locator_that_is_opened_is_a_world_of_its_own() -> None:
    async with open_registry(Locator("memory"), quiet) as one, open_registry(Locator("memory"), quiet) as other:
        await one.put(REGISTRATION)
        seen = await anext(other.watch("/p", NerveDecoder()))
        assert seen.instances == ()
        assert one.state == "connected to memory"


async def test_sessions_of_one_world_see_each_other_and_leave_nothing() -> None:
    world = World()
    async with world.open(quiet) as reader:
        snapshots = reader.watch("/p", NerveDecoder())
        assert (await anext(snapshots)).instances == ()
        async with world.open(quiet) as owner:
            await owner.put(REGISTRATION)
            assert (await anext(snapshots)).instances == (Instance("10.0.0.1", 80, "i", 0),)
        assert (await anext(snapshots)).instances == ()


@pytest.mark.parametrize("kind", [NodeKind.PERSISTENT, NodeKind.PERSISTENT_SEQUENTIAL])
async def test_persistent_nodes_outlive_their_session(kind: NodeKind) -> None:
    world = World()
    async with world.open(quiet) as owner:
        lease = await owner.put(Registration("a", "/p", REGISTRATION.instance, kind))
    assert set(world.nodes("/p")) == {lease.node}


async def test_an_expired_session_loses_its_ephemeral_nodes_and_goes_on_as_a_new_one() -> None:
    world = World()
    async with world.open(quiet) as one, world.open(quiet) as two:
        first, other = await one.put(REGISTRATION), await two.put(REGISTRATION)
        lost = asyncio.create_task(one.lost(first))
        await asyncio.sleep(0)
        assert not lost.done()
        world.expire(one)
        await lost
        assert not one.holds(first)
        assert two.holds(other)
        again = await one.put(REGISTRATION)
        assert again.session != first.session
        assert set(world.nodes("/p")) == {other.node, again.node}
        world.expire()
        assert world.nodes("/p") == {}


async def test_a_broken_world_is_an_exception_and_keeps_what_it_has() -> None:
    world = World()
    async with world.open(quiet) as owner, world.open(quiet) as reader:
        lease = await owner.put(REGISTRATION)
        snapshots = reader.watch("/p", NerveDecoder())
        await anext(snapshots)
        world.break_()
        assert "out of reach" in owner.state
        with pytest.raises(RegistryUnavailable):
            await owner.put(REGISTRATION)
        with pytest.raises(RegistryUnavailable):
            await owner.remove(lease)
        world.delete("/p", lease.node)
        silent = asyncio.ensure_future(anext(snapshots))
        await asyncio.sleep(0.01)
        assert not silent.done()
        world.heal()
        assert (await silent).instances == ()


async def test_what_a_session_had_when_it_closed_without_a_server_goes_when_the_world_heals() -> None:
    world = World()
    async with world.open(quiet) as owner:
        lease = await owner.put(REGISTRATION)
        world.break_()
    assert set(world.nodes("/p")) == {lease.node}
    world.heal()
    assert world.nodes("/p") == {}


async def test_foreign_nodes_and_the_paths_own_data_are_seen() -> None:
    world = World()
    async with world.open(quiet) as reader:
        snapshots = reader.watch("/p", NerveDecoder())
        await anext(snapshots)
        world.write("/p", "bad_0000000001", b"{")
        world.set_data("/p", b"config")
        seen = await anext(snapshots)
        assert seen.instances == ()
        assert seen.data == b"config"
        assert "bad_0000000001" in seen.problems[0]
