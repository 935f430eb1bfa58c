"""What every registry does when its server, or the way to it, fails. A fault never empties a set, and heals itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dockstack.errors import RegistryUnavailable
from dockstack.registry import Registry
from tests.contract.recording import (
    PATH,
    all_put,
    copy,
    kept,
    never,
    ports,
    put_again,
    remove_again,
    tasks_of_ours,
    watching,
)
from tests.contract.worlds import World
from tests.waiting import eventually


@asynccontextmanager
async def nothing_moves(world: World) -> AsyncIterator[Registry]:
    """Twenty services, kept over one session and followed over another, through whatever befalls them in the block.

    Afterwards they have the same nodes, another one is written and seen, and no reader ever saw one missing.
    """
    numbers = list(range(1, 21))
    async with (
        world.registry() as registry,
        world.registry() as reader,
        watching(reader) as recorder,
        kept(registry, [copy(number) for number in numbers]) as services,
    ):
        leases = await services.until_all()
        await recorder.until(numbers)
        nodes, seen = await world.nodes(PATH), len(recorder.snapshots)
        yield registry
        await put_again(registry, copy(99))
        await recorder.until([*numbers, 99])
        assert services.leases == leases
        assert (await world.nodes(PATH)).items() >= nodes.items()
        assert all(len(snapshot.instances) >= len(numbers) for snapshot in recorder.snapshots[seen:])


async def test_an_unavailable_registry_is_an_exception(world: World) -> None:
    async with world.registry() as registry:
        lease = await registry.put(copy(1))
        assert registry.reachable
        await world.break_()
        for call in (lambda: registry.put(copy(2)), lambda: registry.remove(lease), lambda: registry.put(copy(1, 5))):
            async with asyncio.timeout(world.patience):
                with pytest.raises(RegistryUnavailable):
                    await call()
            await asyncio.sleep(0.1)  # the first call may have met the connection's end, the others find none
        assert registry.state
        await eventually(lambda: not registry.reachable, "known to be out of reach")
        await world.heal()
        await put_again(registry, copy(2))
        await eventually(lambda: registry.reachable, "known to be within reach")
        await registry.remove(lease)
        assert len(await world.nodes(PATH)) == 1


async def test_an_unavailable_registry_is_never_an_empty_set(world: World) -> None:
    everything = list(range(1, 21))
    async with world.registry() as registry, world.registry() as reader, watching(reader) as recorder:
        await all_put(registry, [copy(number) for number in everything])
        await recorder.until(everything)
        seen = len(recorder.snapshots)
        await world.break_()
        async with watching(reader) as late:
            await never(lambda: bool(late.snapshots), "a set was given that nobody could read", during=1.5)
            await world.heal()
            await late.until(everything)
            assert all(ports(snapshot) == everything for snapshot in late.snapshots)
        assert all(ports(snapshot) == everything for snapshot in recorder.snapshots[seen:])
        await put_again(registry, copy(21))
        await recorder.until([*everything, 21])


async def test_an_outage_moves_no_node(world: World) -> None:
    async with nothing_moves(world):
        await world.break_()
        await asyncio.sleep(1)
        await world.heal()


async def test_opening_waits_for_no_server(world: World) -> None:
    await world.break_()
    async with asyncio.timeout(60), world.registry() as registry, watching(registry) as recorder:
        async with asyncio.timeout(world.patience):
            with pytest.raises(RegistryUnavailable):
                await registry.put(copy(1))
        assert recorder.snapshots == []
        async with kept(registry, [copy(1)]) as services:
            await asyncio.sleep(0.2)
            await world.heal()
            await services.until_all()
            await recorder.until([1])


async def test_an_expired_session_is_registered_again_within_a_second(world: World) -> None:
    numbers = range(1, 51)
    async with (
        world.registry() as registry,
        world.registry() as reader,
        watching(reader) as recorder,
        kept(registry, [copy(number) for number in numbers]) as services,
    ):
        before = await services.until_all()
        await recorder.until(numbers)
        await world.expire(registry)
        after = await services.until_all(other_than=before, limit=1.0)
        assert {lease.session for lease in after}.isdisjoint(lease.session for lease in before)
        assert set(await world.nodes(PATH)) == {lease.node for lease in after}
        await recorder.until(numbers)


async def test_an_expired_reader_reads_again(world: World) -> None:
    async with world.registry() as registry, world.registry() as reader, watching(reader) as recorder:
        await registry.put(copy(1))
        await recorder.until([1])
        seen = len(recorder.snapshots)
        await world.expire(reader)
        await registry.put(copy(2))
        await recorder.until([1, 2])
        assert all(snapshot.instances for snapshot in recorder.snapshots[seen:])


async def test_a_restarted_server_keeps_the_session_and_no_node_flaps(world: World) -> None:
    async with nothing_moves(world):
        await world.restart()


async def test_a_registration_deleted_by_others_is_put_back(world: World) -> None:
    async with world.registry() as registry, kept(registry, [copy(1), copy(2)]) as services:
        before = await services.until_all()
        await world.delete(PATH, before[0].node)
        await eventually(lambda: before[0] not in services.leases, "the loss is known")
        after = await services.until_all(limit=5)
        assert before[0] not in after
        assert before[1] in after
        assert set(await world.nodes(PATH)) == {lease.node for lease in after}


async def test_a_server_that_accepts_and_never_answers(world: World) -> None:
    async with nothing_moves(world) as registry:
        await world.silence()
        async with asyncio.timeout(world.patience):
            with pytest.raises(RegistryUnavailable):
                await registry.put(copy(99))
        await world.heal()


async def test_opening_towards_a_server_that_never_answers(world: World) -> None:
    await world.silence()
    async with asyncio.timeout(60), world.registry() as registry:
        async with asyncio.timeout(world.patience):
            with pytest.raises(RegistryUnavailable):
                await registry.put(copy(1))
        await world.heal()
        await put_again(registry, copy(1))


@pytest.mark.parametrize("after", [0, 1, 6, 30])
async def test_a_connection_cut_in_the_middle_of_a_reply(world: World, after: int) -> None:
    """With 0 bytes of it the request is carried out, and nobody hears of it."""
    async with asyncio.timeout(60), world.registry() as registry:
        await registry.put(copy(1))

        happened = await world.cut_in_reply(after)
        lease = await put_again(registry, copy(2))
        assert happened.is_set()
        nodes = await world.nodes(PATH)
        assert len(nodes) == 2
        assert lease.node in nodes

        happened = await world.cut_in_reply(after)
        assert (await put_again(registry, copy(2, weight=5))).node == lease.node
        assert happened.is_set()
        assert (await world.nodes(PATH)).keys() == nodes.keys()

        happened = await world.cut_in_reply(after)
        await remove_again(registry, lease)
        assert happened.is_set()
        assert (await world.nodes(PATH)).keys() == nodes.keys() - {lease.node}

        happened = await world.cut_in_reply(after)
        async with watching(registry) as late:
            await late.until([1])
        assert happened.is_set()
        assert all(snapshot.instances for snapshot in late.snapshots)


async def test_connections_cut_again_and_again_move_no_node(world: World) -> None:
    async with nothing_moves(world):
        for number in range(10):
            await world.cut()
            await asyncio.sleep(0.02 * number)


async def test_cuts_while_registering_leave_one_node_for_each(world: World) -> None:
    async with world.registry() as registry:
        async with kept(registry, [copy(number) for number in range(1, 101)]) as services:
            for _ in range(5):
                await world.cut()
                await asyncio.sleep(0.05)
            leases = await services.until_all()
            assert len({lease.node for lease in leases}) == 100
            await eventually(lambda: all(registry.holds(lease) for lease in leases), "all held")
            assert set(await world.nodes(PATH)) == {lease.node for lease in services.leases}
        assert await world.nodes(PATH) == {}


async def test_twenty_thousand_watched_nodes_and_a_cut(world: World) -> None:
    await world.fill("/big", 20_000)
    async with asyncio.timeout(120), world.registry() as registry, watching(registry, "/big") as recorder:
        await recorder.until(range(1, 20_001), limit=60)
        seen = len(recorder.snapshots)
        await world.cut()
        await put_again(registry, copy(60_000, path="/big"))
        await recorder.until([*range(1, 20_001), 60_000], limit=60)
        await world.delete("/big", "fill_0000000000")
        await recorder.until([*range(2, 20_001), 60_000], limit=60)
        assert all(len(snapshot.instances) >= 20_000 for snapshot in recorder.snapshots[seen:])


async def test_closing_without_a_server_is_bounded_and_leaves_no_task(world: World) -> None:
    before = asyncio.all_tasks()
    clock = asyncio.get_running_loop().time
    async with asyncio.timeout(30):
        async with world.registry() as registry, watching(registry) as recorder:
            await all_put(registry, [copy(number) for number in range(1, 21)])
            await recorder.until(range(1, 21))
            await world.break_()
            began = clock()
        assert clock() - began < 3
    await eventually(lambda: not tasks_of_ours(before), "no task of ours")


async def test_closing_towards_a_silent_server_is_bounded_and_leaves_no_task(world: World) -> None:
    before = asyncio.all_tasks()
    clock = asyncio.get_running_loop().time
    async with asyncio.timeout(30):
        async with world.registry() as registry, watching(registry) as recorder:
            await registry.put(copy(1))
            await recorder.until([1])
            await world.silence()
            began = clock()
        assert clock() - began < 3
    await eventually(lambda: not tasks_of_ours(before), "no task of ours")
