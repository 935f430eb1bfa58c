"""Nodes that are written once, kept, and deleted by nobody but their owner, whatever gets lost on the way."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl

from dockstack.errors import RegistryRefused, RegistryUnavailable
from dockstack.registry import NodeKind
from dockstack.registry.codec import encode
from dockstack.registry.zookeeper import ZooKeeper
from tests.registry.zookeeper.clients import at, linked, put_again
from tests.registry.zookeeper.recording import NERVE, PATH, copy, opened
from tests.registry.zookeeper.wiretap import CHILDREN, CREATE, DELETE, EXISTS, GET, MULTI, SET, Wiretap
from tests.servers.proxy import TcpProxy
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import eventually

ONE_NAME = [NodeKind.EPHEMERAL, NodeKind.PERSISTENT]


async def settled(registry: ZooKeeper, tap: Wiretap, count: int) -> None:
    """Waits until so many nodes were asked for: each carries its watch."""
    await eventually(lambda: tap.count(EXISTS) >= count, "the nodes are watched")


# answers that get lost


async def test_two_equal_copies_stay_two_when_both_answers_are_lost(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    kazoo.ensure_path(root + PATH)
    async with opened(at(tap.port, root=root)) as registry:
        await linked(registry)
        tap.lose_reply(CREATE)
        leases = await asyncio.gather(*(registry.put(copy(1, key)) for key in ("one", "two", "three")))
        assert sorted(lease.node for lease in leases) == sorted(kazoo.get_children(root + PATH))
        assert len({lease.node for lease in leases}) == 3
        assert all(map(registry.holds, leases))


async def test_a_create_that_did_not_happen_is_done_again(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    kazoo.ensure_path(root + PATH)
    async with opened(at(tap.port, root=root)) as registry:
        await linked(registry)
        tap.lose_request(CREATE)
        lease = await registry.put(copy(1))
        assert kazoo.get_children(root + PATH) == [lease.node]


async def test_a_cancelled_put_is_found_by_the_next_one(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    kazoo.ensure_path(root + PATH)
    async with opened(at(tap.port, root=root, timeout=6.0)) as registry:
        await linked(registry)
        tap.hold(CREATE)
        put = asyncio.ensure_future(registry.put(copy(1)))
        await asyncio.sleep(0)
        await eventually(lambda: bool(registry.announcements._entries["copy 1"].attempt), "the create is on its way")
        put.cancel()
        await asyncio.wait({put})
        tap.release()
        lease = await registry.put(copy(1))
        assert kazoo.get_children(root + PATH) == [lease.node]


async def test_a_create_that_was_lost_is_found_for_a_wish_that_has_changed(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    kazoo.ensure_path(root + PATH)
    async with opened(at(tap.port, root=root)) as registry:
        await linked(registry)
        tap.lose_reply(CREATE)
        tap.lose_request(CHILDREN)
        with pytest.raises(RegistryUnavailable):
            await registry.put(copy(1))
        lease = await registry.put(copy(2, "copy 1"))
        assert kazoo.get_children(root + PATH) == [lease.node]
        assert b'"port":2' in kazoo.get(f"{root}{PATH}/{lease.node}")[0]


async def test_a_write_whose_answer_is_lost_leaves_the_node_ours(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    kind = NodeKind.PERSISTENT
    async with opened(at(tap.port, root=root)) as registry:
        lease = await registry.put(copy(1, "key", kind=kind))
        tap.lose_reply(SET)
        with pytest.raises(RegistryUnavailable):
            await registry.put(copy(2, "key", kind=kind))
        await registry.remove(lease)
        assert kazoo.get_children(root + PATH) == []


async def test_a_node_that_was_left_is_deleted_however_often_that_fails(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    async with opened(at(tap.port, root=root)) as registry:
        before = await registry.put(copy(1))
        tap.lose_request(DELETE)
        tap.lose_request(DELETE)
        lease = await registry.put(copy(1, path="/b"))
        assert registry.holds(lease)
        assert not registry.holds(before)
        await eventually(lambda: kazoo.get_children(root + PATH) == [], "the old node is deleted")
        assert kazoo.get_children(f"{root}/b") == [lease.node]
        assert tap.count(DELETE) == 3


async def test_a_name_that_is_taken_again_is_not_deleted(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    here, there = (copy(1, path=path, kind=NodeKind.EPHEMERAL) for path in ("/a", "/b"))
    async with opened(at(tap.port, root=root)) as registry:
        await registry.put(here)
        for _ in range(3):  # what a deletion begins with: it is still being tried when the name is taken again
            tap.lose_request(GET)
        await registry.put(there)
        lease = await put_again(registry, here)
        await eventually(lambda: not registry.announcements._left, "nothing is left to be deleted")
        assert kazoo.get_children(f"{root}/a") == [lease.node]
        assert kazoo.get_children(f"{root}/b") == []
        assert registry.holds(lease)


async def test_a_removal_whose_answer_is_lost_can_be_repeated(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    async with opened(at(tap.port, root=root)) as registry:
        lease = await registry.put(copy(1))
        lost = asyncio.ensure_future(registry.lost(lease))
        tap.lose_reply(DELETE)
        with pytest.raises(RegistryUnavailable):
            await registry.remove(lease)
        await registry.remove(lease)
        async with asyncio.timeout(5):
            await lost
        assert kazoo.get_children(root + PATH) == []


async def test_a_removal_waits_for_the_put_that_is_under_way(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    async with opened(at(tap.port, root=root)) as registry:
        lease = await registry.put(copy(1))
        renewed, _ = await asyncio.gather(registry.put(copy(2, "copy 1")), registry.remove(lease))
        assert not registry.holds(renewed)
        assert kazoo.get_children(root + PATH) == []


# sessions


async def test_a_put_that_the_end_of_the_session_meets_is_done_in_the_new_one(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    kazoo.ensure_path(root + PATH)
    async with TcpProxy(zookeeper.port) as proxy, opened(at(proxy.port, root=root, timeout=0.5)) as registry:
        first = await registry.put(copy(1))
        await proxy.refuse()
        await eventually(lambda: kazoo.get_children(root + PATH) == [], "the server has ended the session")
        put = asyncio.ensure_future(put_again(registry, copy(1)))
        await asyncio.sleep(0)
        await proxy.heal()
        lease = await put
        assert lease.session != first.session
        await eventually(lambda: registry.holds(lease), "it is held")
        assert kazoo.get_children(root + PATH) == [lease.node]


async def test_what_others_delete_is_known_without_asking(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    async with opened(at(tap.port, root=root)) as registry:
        one, two = await asyncio.gather(registry.put(copy(1)), registry.put(copy(2)))
        await settled(registry, tap, 2)
        kazoo.delete(f"{root}{PATH}/{one.node}")
        async with asyncio.timeout(5):
            await registry.lost(one)
        assert [registry.holds(lease) for lease in (one, two)] == [False, True]
        again = await registry.put(copy(1))
        assert sorted(kazoo.get_children(root + PATH)) == sorted([two.node, again.node])


async def test_data_that_others_change_ends_no_watch(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    async with opened(at(tap.port, root=root)) as registry:
        lease = await registry.put(copy(1))
        for number in range(1, 4):
            await settled(registry, tap, number)
            kazoo.set(f"{root}{PATH}/{lease.node}", b"{}")
        await settled(registry, tap, 4)
        kazoo.delete(f"{root}{PATH}/{lease.node}")
        async with asyncio.timeout(5):
            await registry.lost(lease)


async def test_a_put_that_hangs_does_not_hide_the_loss_of_another_node(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    kazoo.ensure_path(f"{root}/b")
    async with Wiretap(zookeeper.port) as tap, opened(at(tap.port, root=root, timeout=20.0)) as registry:
        busy, other = await asyncio.gather(registry.put(copy(1)), registry.put(copy(2)))
        await settled(registry, tap, 2)
        async with registry.announcements._turn("copy 1"):  # as a call that is under way has it
            registry.announcements.doubt(f"{root}{PATH}/{busy.node}")
            await asyncio.sleep(0)
            kazoo.delete(f"{root}{PATH}/{other.node}")
            async with asyncio.timeout(5):
                await registry.lost(other)


# one name for several owners


@pytest.mark.parametrize("kind", ONE_NAME)
async def test_a_name_changes_hands_without_a_moment_of_absence(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str, kind: NodeKind
) -> None:
    seen: list[list[str]] = []
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(opened(at(zookeeper.port, root=root)))
        lease = await old.put(copy(1, "key", kind=kind))
        watching = await stack.enter_async_context(opened(at(zookeeper.port, root=root)))
        task = asyncio.ensure_future(_record(watching, seen))
        await eventually(lambda: seen == [["1"]], "the first owner")
        async with opened(at(zookeeper.port, root=root)) as new:
            taken = await new.put(copy(2, "key", kind=kind))
            await eventually(lambda: seen[-1] == ["2"], "the second owner")
            assert taken.node == lease.node
            assert old.holds(lease)  # the name is there: nobody writes it again because of that
            back = await old.put(copy(3, "key", kind=kind))
            await eventually(lambda: seen[-1] == ["3"], "the first owner again")
            assert new.holds(taken)
            await new.put(copy(4, "key", kind=kind))
            await eventually(lambda: seen[-1] == ["4"], "the second owner again")
            await old.remove(back)
            assert kazoo.get_children(root + PATH) == [lease.node]  # the other has written last
            assert new.holds(taken)
        task.cancel()
        await asyncio.wait({task})
    assert [] not in seen


async def _record(registry: ZooKeeper, seen: list[list[str]]) -> None:
    async for snapshot in registry.watch(PATH, NERVE):
        seen.append([str(instance.port) for instance in snapshot.instances])


async def test_an_ephemeral_name_outlives_the_owner_that_it_was_taken_from(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    registration = copy(1, kind=NodeKind.EPHEMERAL)
    async with opened(at(zookeeper.port, root=root)) as new:
        async with opened(at(zookeeper.port, root=root)) as old:
            theirs = await old.put(registration)
            lease = await new.put(registration)  # equal data: a nerve that is started before the old one stops
            await old.remove(theirs)
            assert kazoo.get_children(root + PATH) == [lease.node]
        assert kazoo.get_children(root + PATH) == [lease.node]
        assert new.holds(lease)
        assert kazoo.exists(f"{root}{PATH}/{lease.node}").ephemeralOwner == int(lease.session, 16)


async def test_a_taken_name_that_its_new_owner_gives_up_is_lost_for_the_old_one(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    registration = copy(1, kind=NodeKind.EPHEMERAL)
    async with opened(at(zookeeper.port, root=root)) as old:
        lease = await old.put(registration)
        async with opened(at(zookeeper.port, root=root)) as new:
            await new.put(registration)
        async with asyncio.timeout(5):
            await old.lost(lease)
        again = await old.put(registration)
        assert kazoo.get_children(root + PATH) == [again.node]


async def test_a_name_that_was_lost_to_somebody_is_only_written(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    registration = copy(1, kind=NodeKind.EPHEMERAL)
    async with opened(at(zookeeper.port, root=root)) as registry:
        lease = await registry.put(registration)
        path = f"{root}{PATH}/{lease.node}"
        kazoo.delete(path)
        async with asyncio.timeout(5):
            await registry.lost(lease)
        kazoo.create(path, b"theirs", ephemeral=True)
        theirs = kazoo.exists(path).ephemeralOwner
        lease = await registry.put(registration)
        data, stat = kazoo.get(path)
        assert (data, stat.ephemeralOwner) == (encode(registration), theirs)
        await registry.remove(lease)  # our write was the last: it must not go on for a service that is down
        assert kazoo.exists(path) is None


async def test_a_persistent_leftover_becomes_ephemeral_in_one_step(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    kazoo.create(f"{root}{PATH}/i_", b"{}", makepath=True)
    async with opened(at(tap.port, root=root)) as registry:
        lease = await registry.put(copy(1, kind=NodeKind.EPHEMERAL))
        assert (lease.node, tap.count(MULTI), tap.count(DELETE)) == ("i_", 1, 0)
    assert kazoo.get_children(root + PATH) == []


async def test_a_name_that_cannot_be_taken_says_why(zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str) -> None:
    kazoo.create(f"{root}{PATH}/i_/child", b"{}", makepath=True)
    async with opened(at(zookeeper.port, root=root)) as registry:
        with pytest.raises(RegistryUnavailable, match="NotEmpty"):
            await registry.put(copy(1, kind=NodeKind.EPHEMERAL))


async def test_what_an_acl_forbids_is_refused_with_what_to_do_and_changes_nothing(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    read_only = [make_acl("world", "anyone", read=True)]
    async with opened(at(zookeeper.port, root=root)) as registry:
        lease = await registry.put(copy(1))
        kazoo.set_acls(f"{root}{PATH}/{lease.node}", read_only)
        kazoo.create(f"{root}/mine", b"", acl=[*read_only, make_digest_acl("u", "p", all=True)], makepath=True)
        first = copy(1)
        for wish in (replace(first, instance=replace(first.instance, weight=5)), copy(2, path="/mine/deep")):
            with pytest.raises(
                RegistryRefused, match="cannot be written: NoAuth: the ACL does not let this user; give"
            ):
                await registry.put(wish)
        assert registry.holds(lease)
        await registry.remove(lease)
        assert kazoo.get_children(root + PATH) == []


async def test_two_keys_with_one_name_share_it_until_the_last_gives_it_up(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    async with opened(at(zookeeper.port, root=root)) as registry:
        old = await registry.put(copy(1, "old", kind=NodeKind.EPHEMERAL))
        new = await registry.put(copy(2, "new", kind=NodeKind.EPHEMERAL))
        await registry.remove(old)
        assert kazoo.get_children(root + PATH) == [new.node]
        assert (registry.holds(old), registry.holds(new)) == (False, True)
        await registry.remove(new)
        assert kazoo.get_children(root + PATH) == []


# order in the house


async def test_nothing_is_kept_of_keys_that_are_removed(zookeeper: ZooKeeperServer, root: str) -> None:
    async with opened(at(zookeeper.port, root=root)) as registry:
        for number in range(1, 21):
            await registry.remove(await registry.put(copy(number)))
        announcements = registry.announcements
        await eventually(lambda: not announcements._entries, "no entry is left")
        assert (announcements._at, announcements._left) == ({}, {})


async def test_what_the_server_refuses_is_an_unavailable_registry_with_the_reason(
    zookeeper: ZooKeeperServer, root: str
) -> None:
    async with opened(at(zookeeper.port, root=root)) as registry:
        lease = await registry.put(copy(1))
        with pytest.raises(RegistryUnavailable, match="NoChildrenForEphemerals"):
            await registry.put(copy(2, path=f"{PATH}/{lease.node}"))
        assert registry.holds(lease)
