"""Whose node is it? What a lost answer left, what only looks like it, and what is no longer ours."""

from __future__ import annotations

import asyncio

import pytest
from kazoo.client import KazooClient

from dockstack.errors import RegistryUnavailable
from dockstack.events import Warn
from dockstack.registry import NodeKind
from dockstack.registry.codec import encode
from tests.registry.snapshots import ports
from tests.registry.zookeeper.clients import at, put_again
from tests.registry.zookeeper.recording import NERVE, PATH, Log, copy, opened
from tests.registry.zookeeper.wiretap import CHILDREN, CREATE, DELETE, EXISTS, GET, MULTI, SET, Wiretap, paths
from tests.servers.proxy import TcpProxy
from tests.waiting import eventually

SEQUENTIAL = [NodeKind.EPHEMERAL_SEQUENTIAL, NodeKind.PERSISTENT_SEQUENTIAL]
WHOLE_NAMES = [NodeKind.EPHEMERAL, NodeKind.PERSISTENT]


# what a lost answer left


@pytest.mark.parametrize("kind", SEQUENTIAL, ids=lambda kind: kind.value)
async def test_an_equal_node_of_somebody_else_is_not_taken_for_ours(
    tap: Wiretap, kazoo: KazooClient, root: str, kind: NodeKind
) -> None:
    wish = copy(1, kind=kind)
    async with opened(at(tap.port, root=root)) as ours, opened(at(tap.port, root=root)) as theirs:
        other = await theirs.put(wish)
        lost = tap.lose_request(CREATE)
        lease = await ours.put(wish)
        assert lost.is_set()
        assert {lease.node, other.node} == set(kazoo.get_children(root + PATH))
        assert lease.node != other.node
        await asyncio.gather(ours.remove(lease), theirs.remove(other))


@pytest.mark.parametrize("after", [0, 4, 8])
async def test_many_answers_lost_at_once_leave_each_registration_its_own_node(
    tap: Wiretap, kazoo: KazooClient, root: str, after: int
) -> None:
    kazoo.ensure_path(root + PATH)
    async with opened(at(tap.port, root=root)) as registry:
        lost = tap.lose_reply(CREATE, after)
        leases = await asyncio.gather(*(registry.put(copy(number)) for number in range(1, 10)))
        assert lost.is_set()
        assert sorted(kazoo.get_children(root + PATH)) == sorted(lease.node for lease in leases)
        for lease in leases:
            assert kazoo.get(f"{root}{PATH}/{lease.node}")[0] == encode(lease.registration)


async def test_what_was_left_for_a_name_that_is_no_longer_wished_goes(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    kazoo.ensure_path(root + PATH)
    async with opened(at(tap.port, root=root, timeout=1.5)) as registry:
        tap.lose_reply(CREATE)
        tap.hold(CHILDREN)
        with pytest.raises(RegistryUnavailable):
            await registry.put(copy(1))
        tap.release()
        assert len(kazoo.get_children(root + PATH)) == 1
        lease = await put_again(registry, copy(1, name="j"))
        assert lease.node.startswith("j_")
        assert kazoo.get_children(root + PATH) == [lease.node]


# limits


async def test_a_call_that_waits_for_another_of_its_key_has_a_limit_too(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    kazoo.ensure_path(root + PATH)
    clock = asyncio.get_running_loop().time
    async with opened(at(tap.port, root=root, timeout=2.0)) as registry:
        tap.hold(CREATE)
        began = clock()
        answers = await asyncio.gather(*(registry.put(copy(1)) for _ in range(4)), return_exceptions=True)
        assert all(isinstance(answer, RegistryUnavailable) for answer in answers)
        assert clock() - began < 2.0
        tap.release()


# the loss of a node


async def test_whoever_waits_for_a_loss_goes_on_over_an_update(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    async with opened(at(tap.port, root=root)) as registry:
        first = await registry.put(copy(1))
        lost = asyncio.ensure_future(registry.lost(first))
        second = await registry.put(copy(2, "copy 1"))
        assert first.node == second.node
        await asyncio.sleep(0)
        assert not lost.done()
        kazoo.delete(f"{root}{PATH}/{first.node}")
        async with asyncio.timeout(5):
            await lost
        assert not registry.holds(second)


async def test_a_node_that_was_left_for_another_is_lost(tap: Wiretap, root: str) -> None:
    async with opened(at(tap.port, root=root)) as registry:
        first = await registry.put(copy(1))
        lost = asyncio.ensure_future(registry.lost(first))
        await asyncio.sleep(0)
        second = await registry.put(copy(1, name="j"))
        async with asyncio.timeout(5):
            await lost
        assert registry.holds(second)
        async with asyncio.timeout(1):
            await registry.lost(first)


async def test_what_is_deleted_during_an_outage_is_known_after_it(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    async with TcpProxy(tap.port) as proxy, opened(at(proxy.port, root=root, timeout=10)) as registry:
        one, two = await asyncio.gather(registry.put(copy(1)), registry.put(copy(2)))
        await eventually(lambda: tap.count(EXISTS) == 2, "their watches are set")
        await registry.put(copy(2))  # answers come in order: those on the watches are here
        await proxy.refuse()
        kazoo.delete(f"{root}{PATH}/{one.node}")
        assert registry.holds(one)
        await proxy.heal()
        async with asyncio.timeout(5):
            await registry.lost(one)
        assert registry.holds(two)


async def test_a_sequential_node_that_somebody_has_replaced_is_lost(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    async with opened(at(tap.port, root=root)) as registry:
        lease = await registry.put(copy(1))
        await eventually(lambda: tap.count(EXISTS) == 1, "its watch is set")
        path = f"{root}{PATH}/{lease.node}"
        transaction = kazoo.transaction()
        transaction.delete(path)
        transaction.create(path, b"mine")
        transaction.commit()
        async with asyncio.timeout(5):
            await registry.lost(lease)


# names that are taken


async def test_a_name_that_was_lost_to_somebody_is_written_but_not_fought_for(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    """Two owners that replace each other's node would do so for ever. Whoever wrote last takes it away, too."""
    wish = copy(1, kind=NodeKind.EPHEMERAL)
    path = f"{root}{PATH}/i_"
    async with opened(at(tap.port, root=root)) as registry:
        lease = await registry.put(wish)
        await eventually(lambda: tap.count(EXISTS) == 1, "its watch is set")
        tap.hold(EXISTS)  # the question whether it is there comes between
        kazoo.delete(path)
        await asyncio.sleep(0.05)
        tap.release()
        async with asyncio.timeout(5):
            await registry.lost(lease)
        kazoo.create(path, b"mine", ephemeral=True)
        before = len(tap.asked)
        again = await registry.put(wish)
        assert tap.count(MULTI, before) == 0
        data, stat = kazoo.get(path)
        assert (data, stat.ephemeralOwner) == (encode(wish), kazoo.client_id[0])
        assert registry.holds(again)
        await registry.remove(again)
        assert kazoo.exists(path) is None


async def test_a_name_that_is_taken_again_before_it_could_be_deleted_stays(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    here, there = (copy(1, path=path, kind=NodeKind.EPHEMERAL) for path in ("/a", "/b"))
    async with opened(at(tap.port, root=root)) as registry:
        await registry.put(here)
        for _ in range(100):  # what a deletion of such a node begins with
            tap.lose_request(GET)
        await put_again(registry, there)
        lease = await put_again(registry, here)
        assert sorted(kazoo.get_children(root)) == ["a", "b"]
        assert kazoo.get_children(f"{root}/a") == [lease.node]
        tap.release()
        await eventually(lambda: kazoo.get_children(f"{root}/b") == [], "the node that was left is deleted")
        await eventually(lambda: not registry.announcements._left, "nothing is left to be deleted")
        await asyncio.sleep(0.5)
        assert kazoo.get_children(f"{root}/a") == [lease.node]
        assert registry.holds(lease)


async def test_a_name_that_is_written_by_others_while_it_is_replaced_is_looked_at_again(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    wish = copy(1, kind=NodeKind.EPHEMERAL)
    path = f"{root}{PATH}/i_"
    kazoo.create(path, b"a leftover", makepath=True)
    async with opened(at(tap.port, root=root)) as registry:
        tap.hold(MULTI)
        put = asyncio.ensure_future(registry.put(wish))
        await eventually(lambda: tap.count(EXISTS) == 1, "whose it is has been asked")
        await asyncio.sleep(0.05)
        kazoo.set(path, b"a leftover, written again")
        tap.release()
        lease = await put
        assert registry.holds(lease)
        assert tap.count(MULTI) == 2
        assert kazoo.get(path)[0] == encode(wish)


@pytest.mark.parametrize("kind", WHOLE_NAMES, ids=lambda kind: kind.value)
async def test_a_node_that_is_written_by_others_at_the_last_moment_is_not_deleted(
    tap: Wiretap, kazoo: KazooClient, root: str, kind: NodeKind
) -> None:
    path = f"{root}{PATH}/i_"
    async with opened(at(tap.port, root=root)) as registry:
        lease = await registry.put(copy(1, kind=kind))
        tap.hold(DELETE)
        removal = asyncio.ensure_future(registry.remove(lease))
        await eventually(lambda: tap.count(GET) == 1, "whose it is has been asked")
        await asyncio.sleep(0.05)
        kazoo.set(path, b"mine")
        tap.release()
        async with asyncio.timeout(5):
            await removal
        assert kazoo.get(path)[0] == b"mine"
        assert not registry.holds(lease)


async def test_a_ttls_rewrite_is_one_write(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    wish = copy(1, kind=NodeKind.PERSISTENT_SEQUENTIAL)
    async with opened(at(tap.port, root=root)) as registry:
        first = await registry.put(wish)
        node = f"{root}{PATH}/{first.node}"
        await eventually(lambda: node in paths(tap.asked, EXISTS), "its watch is set")
        before = len(tap.asked)
        assert await registry.put(wish) == first
        assert tap.counts(before)[SET] == 1
        assert tap.count(CREATE, before) == 0
        assert kazoo.get(node)[1].version == 1
        await registry.remove(first)


# reading


async def test_a_node_that_goes_between_the_list_and_the_read_is_gone_without_a_word(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    log = Log()
    async with opened(at(tap.port, root=root), log) as registry:
        one, _ = await asyncio.gather(registry.put(copy(1)), registry.put(copy(2)))
        tap.hold(GET)
        reading = asyncio.ensure_future(anext(aiter(registry.watch(PATH, NERVE))))
        await eventually(lambda: tap.count(CHILDREN) == 1, "the list was asked for")
        await asyncio.sleep(0.05)
        kazoo.delete(f"{root}{PATH}/{one.node}")
        tap.release()
        async with asyncio.timeout(5):
            assert ports(await reading) == [2]
        assert log.of(Warn) == []
