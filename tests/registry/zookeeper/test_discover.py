"""What a follower sees, with the watches of ZooKeeper 3.6 and with those from before, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiozk.protocol.watches import WatchEvent
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl

from dockstack.events import Warn
from dockstack.registry import NodeKind, Snapshot
from dockstack.registry.codec import ServersetDecoder
from dockstack.registry.events import NodeUnread
from dockstack.registry.zookeeper import ZooKeeper
from tests.registry.snapshots import ports, until, until_ports
from tests.registry.zookeeper.clients import at
from tests.registry.zookeeper.recording import NERVE, PATH, Log, copy, opened
from tests.registry.zookeeper.wiretap import ADD_WATCH, CHILDREN, GET, REMOVE_WATCHES, Wiretap
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import eventually


@pytest.fixture(params=[True, False], ids=["persistent", "one-shot"])
def persistent(request: pytest.FixtureRequest) -> bool:
    """Which watches are used."""
    return bool(request.param)


def data(port: int) -> bytes:
    return b'{"host":"10.0.0.1","port":%d}' % port


def node(number: int) -> str:
    return f"i_{number:010d}"


def follow(registry: ZooKeeper, path: str = PATH) -> AsyncIterator[Snapshot]:
    return aiter(registry.watch(path, NERVE))


async def test_every_kind_of_change_is_seen(tap: Wiretap, kazoo: KazooClient, root: str, persistent: bool) -> None:
    here = root + PATH
    async with opened(at(tap.port, root=root), persistent=persistent) as registry:
        seen = follow(registry)
        assert await anext(seen) == Snapshot(())
        for _ in range(2):  # one-shot watches must be set again each time
            kazoo.create(f"{here}/{node(1)}", data(1))
            await until_ports(seen, [1])
            kazoo.set(f"{here}/{node(1)}", data(2))
            await until_ports(seen, [2])
            kazoo.set(here, b"the path's own")
            await until(seen, lambda snapshot: snapshot.data == b"the path's own", "the path's data")
            kazoo.create(f"{here}/{node(2)}", data(4))
            await until_ports(seen, [2, 4])
            kazoo.delete(f"{here}/{node(1)}")
            await until_ports(seen, [4])
            kazoo.delete(f"{here}/{node(2)}")
            kazoo.set(here, b"")
            await until(seen, lambda snapshot: snapshot == Snapshot(()), "nothing")


async def test_a_change_costs_one_read_or_none(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    for number in range(1, 101):
        kazoo.create(f"{root}{PATH}/{node(number)}", data(number), makepath=True)
    async with opened(at(tap.port, root=root)) as registry:
        seen = follow(registry)
        await until_ports(seen, list(range(1, 101)))
        before = len(tap.asked)
        kazoo.create(f"{root}{PATH}/{node(101)}", data(101))
        await until_ports(seen, list(range(1, 102)))
        kazoo.delete(f"{root}{PATH}/{node(101)}")
        await until_ports(seen, list(range(1, 101)))
        assert tap.counts(before) == {GET: 1}


async def test_a_name_that_says_all_is_never_read(
    tap: Wiretap, zookeeper: ZooKeeperServer, root: str, persistent: bool
) -> None:
    async with (
        opened(at(zookeeper.port, root=root)) as writer,
        opened(at(tap.port, root=root), persistent=persistent) as registry,
    ):
        await writer.put(replace(copy(1), path_encoding=True))
        seen = follow(registry)
        await until_ports(seen, [1])
        lease = await writer.put(replace(copy(2), path_encoding=True))
        await until_ports(seen, [1, 2])
        await writer.remove(lease)
        await until_ports(seen, [1])
        reads = [asked.path for asked in tap.asked if asked.opcode == GET]
        assert set(reads) == {root + PATH}  # its own data


async def test_a_name_that_somebody_takes_over_is_never_absent(
    zookeeper: ZooKeeperServer, root: str, persistent: bool
) -> None:
    async with (
        opened(at(zookeeper.port, root=root)) as one,
        opened(at(zookeeper.port, root=root)) as two,
        opened(at(zookeeper.port, root=root), persistent=persistent) as registry,
    ):
        await one.put(copy(1, "key", kind=NodeKind.EPHEMERAL))
        seen = follow(registry)
        await until_ports(seen, [1])
        lease = await two.put(copy(2, "key", kind=NodeKind.EPHEMERAL))
        async with asyncio.timeout(5):
            assert ports(await anext(seen)) == [2]
        await two.remove(lease)
        await until_ports(seen, [])


async def test_a_deletion_that_is_told_before_the_creation_is_no_absence(
    zookeeper: ZooKeeperServer, root: str, persistent: bool
) -> None:
    async with opened(at(zookeeper.port, root=root), persistent=persistent) as registry:
        lease = await registry.put(copy(1, kind=NodeKind.EPHEMERAL))
        seen = follow(registry)
        await until_ports(seen, [1])
        # The two events of one transaction may come in two packets.
        registry._happened(WatchEvent(type=WatchEvent.DELETED, state=3, path=f"{root}{PATH}/{lease.node}"))
        async with asyncio.timeout(5):
            assert ports(await anext(seen)) == [1]
        assert registry.holds(lease)


async def test_a_path_that_is_deleted_is_empty_and_goes_on(
    tap: Wiretap, kazoo: KazooClient, root: str, persistent: bool
) -> None:
    async with opened(at(tap.port, root=root), persistent=persistent) as registry:
        seen = follow(registry)
        await until_ports(seen, [])
        for number in (1, 2):
            kazoo.create(f"{root}{PATH}/{node(number)}", data(number))
            await until_ports(seen, [number])
            kazoo.delete(root, recursive=True)
            await until_ports(seen, [])
            await eventually(lambda: kazoo.exists(root + PATH) is not None, "the path is made again")


async def test_followers_of_one_path_come_and_go(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str, persistent: bool
) -> None:
    async with opened(at(zookeeper.port, root=root), persistent=persistent) as registry:
        nerve, serverset = registry.watch(PATH, NERVE), registry.watch(PATH, ServersetDecoder())
        other = follow(registry, "/other")
        await until_ports(aiter(nerve), [])
        assert (await anext(aiter(serverset))).problems == ()
        await until_ports(other, [])
        kazoo.create(f"{root}{PATH}/{node(1)}", data(1))
        await until_ports(aiter(nerve), [1])
        assert "serviceEndpoint" in (await anext(aiter(serverset))).problems[0]
        await serverset.aclose()  # type: ignore[attr-defined]
        kazoo.create(f"{root}{PATH}/{node(2)}", data(2))
        await until_ports(aiter(nerve), [1, 2])
        kazoo.create(f"{root}/other/{node(3)}", data(3))
        await until_ports(other, [3])


async def test_the_last_follower_takes_the_watch_away(tap: Wiretap, zookeeper: ZooKeeperServer, root: str) -> None:
    def watched() -> bool:
        return any(line.strip() == root + PATH for line in zookeeper.ask("wchp").splitlines())

    async with opened(at(tap.port, root=root)) as registry:
        first, second = registry.watch(PATH, NERVE), registry.watch(PATH, NERVE)
        await anext(aiter(first))
        await anext(aiter(second))
        assert watched()
        await first.aclose()  # type: ignore[attr-defined]
        assert tap.count(REMOVE_WATCHES) == 0
        await second.aclose()  # type: ignore[attr-defined]
        await eventually(lambda: not watched(), "the server watches no more")
        await until_ports(follow(registry), [])
        assert watched()


async def test_a_slow_reader_gets_the_newest_set_alone(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str, persistent: bool
) -> None:
    async with opened(at(zookeeper.port, root=root), persistent=persistent) as registry:
        slow, quick = follow(registry), follow(registry)
        await anext(slow)
        for number in range(1, 31):
            kazoo.create(f"{root}{PATH}/{node(number)}", data(number))
            kazoo.set(f"{root}{PATH}/{node(number)}", data(number + 100))
        await until_ports(quick, list(range(101, 131)))
        assert ports(await anext(slow)) == list(range(101, 131))


async def test_more_events_than_are_kept_are_a_new_read(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockstack.registry.zookeeper.discover._MOST_EVENTS", 5)
    async with opened(at(zookeeper.port, root=root)) as registry:
        slow, quick = follow(registry), follow(registry)
        await anext(slow)
        for number in range(1, 31):
            kazoo.create(f"{root}{PATH}/{node(number)}", data(number))
        await until_ports(quick, list(range(1, 31)))
        assert ports(await anext(slow)) == list(range(1, 31))


async def test_what_changes_during_a_cut_is_seen_after_it(
    tap: Wiretap, kazoo: KazooClient, root: str, persistent: bool
) -> None:
    async with opened(at(tap.port, root=root), persistent=persistent) as registry:
        for number in (1, 2, 3):
            kazoo.create(f"{root}{PATH}/{node(number)}", data(number), makepath=True)
        seen = follow(registry)
        await until_ports(seen, [1, 2, 3])
        tap.cut()
        kazoo.delete(f"{root}{PATH}/{node(1)}")
        kazoo.set(f"{root}{PATH}/{node(2)}", data(20))
        kazoo.create(f"{root}{PATH}/{node(4)}", data(4))
        await until_ports(seen, [3, 4, 20])


@pytest.mark.parametrize("opcode", [ADD_WATCH, CHILDREN, GET])
async def test_a_cut_while_reading_gives_no_half_of_the_set(
    tap: Wiretap, kazoo: KazooClient, root: str, opcode: int
) -> None:
    for number in range(1, 11):
        kazoo.create(f"{root}{PATH}/{node(number)}", data(number), makepath=True)
    log = Log()
    async with opened(at(tap.port, root=root), log) as registry:
        lost = tap.lose_reply(opcode, after=4 if opcode == GET else 0)
        assert ports(await anext(follow(registry))) == list(range(1, 11))
        assert lost.is_set()
    assert log.of(NodeUnread) == ([NodeUnread(root + PATH, child=True)] if opcode == GET else [])


async def test_data_of_the_path_itself_that_are_not_read_are_told(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    kazoo.create(root + PATH, b"{}", makepath=True)
    log = Log()
    async with opened(at(tap.port, root=root), log) as registry:
        tap.lose_reply(GET)
        assert (await anext(follow(registry))).data == b"{}"
    assert log.of(NodeUnread) == [NodeUnread(root + PATH, child=False)]


async def test_an_old_server_is_followed_with_one_shot_watches(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    log = Log()
    tap.act_old(ADD_WATCH)
    async with opened(at(tap.port, root=root), log) as registry:
        seen = follow(registry)
        await until_ports(seen, [])
        kazoo.create(f"{root}{PATH}/{node(1)}", data(1))
        await until_ports(seen, [1])
        kazoo.set(f"{root}{PATH}/{node(1)}", data(2))
        await until_ports(seen, [2])
        await until_ports(follow(registry, "/other"), [])
    assert tap.count(ADD_WATCH) == 1
    assert sum("before 3.6" in str(event) for event in log.of(Warn)) == 1


async def test_a_path_that_may_not_be_made_is_waited_for(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str, persistent: bool
) -> None:
    kazoo.create(root, b"", acl=[make_acl("world", "anyone", read=True)], makepath=True)
    log = Log()
    async with opened(at(zookeeper.port, root=root), log, persistent) as registry:
        seen = follow(registry, "/later")
        first = await anext(seen)
        assert (first, first.missing) == (Snapshot(()), True)
        assert "may not be made" in str(log.of(Warn)[0])
        kazoo.delete(root)
        kazoo.create(f"{root}/later/{node(1)}", data(1), makepath=True)
        assert not (await until_ports(seen, [1])).missing


async def test_a_node_that_may_not_be_read_is_named_and_the_rest_serves(
    tap: Wiretap, kazoo: KazooClient, root: str, persistent: bool
) -> None:
    private = f"{root}{PATH}/{node(1)}"
    kazoo.ensure_path(root + PATH)
    kazoo.create(private, data(1), acl=[make_digest_acl("user", "secret", all=True)])
    log = Log()
    async with opened(at(tap.port, root=root), log, persistent) as registry:
        first = asyncio.ensure_future(_first(registry))
        await eventually(lambda: bool(log.of(Warn)), "the operator is told")
        assert "may not read any" in str(log.of(Warn)[0])
        assert not first.done()  # nothing that could be read is not the same as nothing
        kazoo.create(f"{root}{PATH}/{node(2)}", data(2))
        async with asyncio.timeout(5):
            snapshot = await first
        assert ports(snapshot) == [2]
        assert snapshot.problems == (f"{PATH}/{node(1)}: this user may not read it",)
        seen = follow(registry)
        await until_ports(seen, [2])
        kazoo.delete(private)
        tap.cut()  # a server tells nobody of a node that he may not read: only the next whole read shows it
        await until(seen, lambda snapshot: not snapshot.problems, "the private node is gone")


async def _first(registry: ZooKeeper) -> Snapshot:
    return await anext(follow(registry))


async def test_the_roots_own_data_are_no_member(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, persistent: bool
) -> None:
    async with opened(at(zookeeper.port), persistent=persistent) as registry:
        seen = follow(registry, "/")
        before = await anext(seen)
        assert before.problems  # its children are no instances
        kazoo.set("/", b"own")
        snapshot = await until(seen, lambda snapshot: snapshot.data == b"own", "the root's own data")
        kazoo.set("/", b"")
        assert snapshot == replace(before, data=b"own")


async def test_what_is_deeper_down_costs_nothing(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    kazoo.create(f"{root}{PATH}/{node(1)}", data(1), makepath=True)
    async with opened(at(tap.port, root=root)) as registry:
        seen = follow(registry)
        await until_ports(seen, [1])
        before = len(tap.asked)
        kazoo.create(f"{root}{PATH}/{node(1)}/deeper", data(7))
        kazoo.create(f"{root}{PATH}/{node(2)}", data(2))
        await until_ports(seen, [1, 2])
        assert tap.counts(before) == {GET: 1}


async def test_a_snapshot_tells_what_its_requests_took(tap: Wiretap, kazoo: KazooClient, root: str) -> None:
    async with opened(at(tap.port, root=root)) as registry:
        seen = follow(registry)
        first = await anext(seen)
        # The path that is made is read once more, as its own creation is told.
        assert [what for what, _ in first.spent][:3] == ["create_path", "children", "get"]
        assert all(0 < seconds < 5 for _, seconds in first.spent)
        kazoo.create(f"{root}{PATH}/{node(1)}", data(1))
        second = await until_ports(seen, [1])
        assert {what for what, _ in second.spent} == {"get"}
        read = await registry.read(PATH, NERVE)
        assert [what for what, _ in read.spent] == ["children", "get", "get"]
