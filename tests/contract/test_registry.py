"""What every registry does when all goes well."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dockstack.model import Instance
from dockstack.registry import NodeKind
from dockstack.registry.codec import encode, node_prefix, sequence_of
from tests.contract.recording import NERVE, PATH, all_put, copy, kept, ports, tasks_of_ours, watching
from tests.contract.worlds import World
from tests.waiting import eventually


@pytest.mark.parametrize("kind", NodeKind, ids=lambda kind: kind.value)
async def test_announce(world: World, kind: NodeKind) -> None:
    registration = copy(1, kind=kind)
    async with world.registry() as registry:
        lease = await registry.put(registration)
        assert lease.registration == registration
        assert registry.holds(lease)
        assert await world.nodes(PATH) == {lease.node: encode(registration)}
        assert lease.node.startswith("i_")
        assert (sequence_of(lease.node) is not None) is kind.sequential
        await registry.remove(lease)


async def test_announce_with_an_encoded_name(world: World) -> None:
    registration = replace(copy(1), path_encoding=True)
    async with world.registry() as registry:
        lease = await registry.put(registration)
        assert lease.node.startswith(node_prefix(registration))
        assert await world.nodes(PATH) == {lease.node: encode(registration)}
        seen = await anext(registry.watch(PATH, NERVE))
        assert seen.instances == (replace(registration.instance, id=world.number(lease)),)


@pytest.mark.parametrize("kind", NodeKind, ids=lambda kind: kind.value)
async def test_idempotent_put(world: World, kind: NodeKind) -> None:
    async with world.registry() as registry:
        first = await registry.put(copy(1, kind=kind))
        second = await registry.put(copy(1, kind=kind))
        assert second == first
        assert registry.holds(first)
        assert set(await world.nodes(PATH)) == {first.node}
        await registry.remove(second)


async def test_two_equal_copies_stay_two(world: World) -> None:
    one = copy(1)
    async with world.registry() as registry, world.registry() as elsewhere:
        leases = [
            await registry.put(one),
            await registry.put(replace(one, key="another copy")),
            await elsewhere.put(one),
        ]
        assert len({lease.node for lease in leases}) == 3
        assert list((await world.nodes(PATH)).values()) == [encode(one)] * 3
        seen = await anext(registry.watch(PATH, NERVE))
        assert len(seen.instances) == 3
        await registry.remove(leases[1])
        assert set(await world.nodes(PATH)) == {leases[0].node, leases[2].node}


@pytest.mark.parametrize("kind", NodeKind, ids=lambda kind: kind.value)
async def test_changed_data_without_a_moment_of_absence(world: World, kind: NodeKind) -> None:
    async with world.registry() as registry, world.registry() as reader, watching(reader) as recorder:
        before = await registry.put(copy(1, kind=kind))
        await recorder.until([1])
        seen = len(recorder.snapshots)
        for weight in range(1, 30):
            after = await registry.put(copy(1, weight, kind))
            assert after.node == before.node
            assert registry.holds(after)
        await eventually(lambda: recorder.snapshots[-1].instances[0].weight == 29, "the newest weight")
        assert all(ports(snapshot) == [1] for snapshot in recorder.snapshots[seen:])
        assert await world.nodes(PATH) == {after.node: encode(copy(1, 29, kind))}
        await registry.remove(after)


async def test_changed_name_is_a_new_node_before_the_old_one_goes(world: World) -> None:
    async with world.registry() as registry, world.registry() as reader, watching(reader) as recorder:
        one = copy(1)
        first = await registry.put(one)
        await recorder.until([1])
        seen = len(recorder.snapshots)
        second = await registry.put(replace(one, instance=replace(one.instance, name="j")))
        assert second.node.startswith("j_")
        await eventually(lambda: [i.name for i in recorder.snapshots[-1].instances] == ["j"], "the new name alone")
        assert all(snapshot.instances for snapshot in recorder.snapshots[seen:])
        assert not registry.holds(first)
        assert set(await world.nodes(PATH)) == {second.node}


async def test_remove(world: World) -> None:
    async with world.registry() as registry:
        first, second = await all_put(registry, [copy(1), copy(2)])
        lost = asyncio.create_task(registry.lost(first))
        await registry.remove(first)
        assert not registry.holds(first)
        assert registry.holds(second)
        assert set(await world.nodes(PATH)) == {second.node}
        async with asyncio.timeout(5):
            await lost
        await registry.remove(first)
        again = await registry.put(copy(1))
        await registry.remove(first)
        assert set(await world.nodes(PATH)) == {second.node, again.node}


@pytest.mark.parametrize("kind", [NodeKind.EPHEMERAL, NodeKind.PERSISTENT], ids=lambda kind: kind.value)
async def test_a_name_taken_over_is_not_deleted_by_its_old_owner(world: World, kind: NodeKind) -> None:
    async with world.registry() as registry:
        old = await registry.put(replace(copy(1, kind=kind), key="before the reload"))
        new = await registry.put(replace(copy(2, kind=kind), key="after the reload"))
        assert new.node == old.node
        await registry.remove(old)
        assert await world.nodes(PATH) == {new.node: encode(copy(2, kind=kind))}
        assert registry.holds(new)
        await registry.remove(new)
        assert await world.nodes(PATH) == {}


async def test_a_name_that_somebody_else_owns_is_taken_over(world: World) -> None:
    await world.write(PATH, "i_", b"old")
    async with world.registry() as registry:
        lease = await registry.put(copy(1, kind=NodeKind.EPHEMERAL))
        assert lease.node == "i_"
        assert registry.holds(lease)
        assert await world.nodes(PATH) == {"i_": encode(copy(1))}


async def test_watch_gives_the_whole_set_at_once_and_then_every_change(world: World) -> None:
    async with world.registry() as registry, world.registry() as reader:
        leases = await all_put(registry, [copy(number) for number in range(1, 21)])
        async with watching(reader) as recorder:
            await eventually(lambda: bool(recorder.snapshots), "a first snapshot")
            assert ports(recorder.snapshots[0]) == list(range(1, 21))
            await registry.put(copy(21))
            await recorder.until(range(1, 22))
            await registry.remove(leases[0])
            await recorder.until(range(2, 22))
            await registry.put(copy(2, weight=7))
            await eventually(
                lambda: any(i.weight == 7 for i in recorder.snapshots[-1].instances), "the weight of the second"
            )
            await recorder.until(range(2, 22))


async def test_a_slow_reader_gets_the_newest_state(world: World) -> None:
    async with world.registry() as registry, world.registry() as reader, watching(reader) as marker:
        snapshots = reader.watch(PATH, NERVE)
        await anext(snapshots)
        for number in range(1, 51):
            await registry.put(copy(number))
        await marker.until(range(1, 51))
        async with asyncio.timeout(5):
            while ports(await anext(snapshots)) != list(range(1, 51)):
                marker.failures += 1
        assert marker.failures <= 3


async def test_a_path_that_does_not_exist_yet(world: World) -> None:
    async with world.registry() as registry, world.registry() as reader:
        async with watching(reader, "/not/yet/here") as recorder:
            await recorder.until([])
            await registry.put(copy(1, path="/not/yet/here"))
            await recorder.until([1])
        assert ports(recorder.snapshots[0]) == []


async def test_paths_do_not_see_each_other(world: World) -> None:
    async with world.registry() as registry, watching(registry, "/a") as above, watching(registry, "/a/b") as below:
        await registry.put(copy(1, path="/a/b"))
        await below.until([1])
        await registry.put(copy(2, path="/a"))
        await above.until([2])
        assert ports(below.snapshots[-1]) == [1]


async def test_a_bad_node_is_skipped_by_name(world: World) -> None:
    async with world.registry() as registry, watching(registry) as recorder:
        await registry.put(copy(1))
        await recorder.until([1])
        await world.write(PATH, "broken_0000009998", b"{")
        await world.write(PATH, "port_0000009999", b'{"host":"10.0.0.1","port":99999}')
        await eventually(lambda: len(recorder.snapshots[-1].problems) == 2, "two problems")
        assert ports(recorder.snapshots[-1]) == [1]
        broken, port = recorder.snapshots[-1].problems
        assert "broken_0000009998" in broken
        assert "port_0000009999" in port
        await world.write(PATH, "static_0000009997", b'{"host":"10.0.0.2","port":2}')
        await recorder.until([1, 2])
        assert Instance("10.0.0.2", 2) in [replace(one, id=None) for one in recorder.snapshots[-1].instances]


async def test_a_thousand_members(world: World) -> None:
    async with asyncio.timeout(60), world.registry() as registry, world.registry() as reader:
        async with watching(reader) as recorder:
            leases = await all_put(registry, [copy(number) for number in range(1, 1001)])
            assert len({lease.node for lease in leases}) == 1000
            await recorder.until(range(1, 1001))
            late = await anext(registry.watch(PATH, NERVE))
            assert ports(late) == list(range(1, 1001))
            await asyncio.gather(*(registry.remove(lease) for lease in leases[:500]))
            await recorder.until(range(501, 1001))
        assert set(await world.nodes(PATH)) == {lease.node for lease in leases[500:]}


async def test_closing_with_a_server_withdraws_all_and_leaves_no_task(world: World) -> None:
    before = asyncio.all_tasks()
    async with asyncio.timeout(10):
        async with world.registry() as registry, watching(registry) as recorder:
            await all_put(registry, [copy(number) for number in range(1, 21)])
            await recorder.until(range(1, 21))
            clock = asyncio.get_running_loop().time
            began = clock()
        assert clock() - began < 3
    assert await world.nodes(PATH) == {}
    await eventually(lambda: not tasks_of_ours(before), "no task of ours")


async def test_kept_services_are_withdrawn_at_the_end(world: World) -> None:
    async with world.registry() as registry:
        async with kept(registry, [copy(number) for number in range(1, 21)]) as services:
            await services.until_all()
            assert len(await world.nodes(PATH)) == 20
        assert await world.nodes(PATH) == {}
