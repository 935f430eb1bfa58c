"""The life of one session over many connections: kept through every loss, given up only at the server's word."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE, make_digest_acl

from dockstack.errors import RegistryUnavailable
from dockstack.model import Address
from dockstack.registry.zookeeper.events import Connected, Expired, Suspended, Unreachable
from dockstack.runtime import pace
from tests.registry.snapshots import until, until_ports
from tests.registry.zookeeper.clients import at, put_again
from tests.registry.zookeeper.recording import NERVE, PATH, Log, copy, opened
from tests.registry.zookeeper.scripted import (
    Script,
    deaf,
    hangs_up,
    promises_too_much,
    refuses,
    scripted,
    speaks_http,
)
from tests.registry.zookeeper.wiretap import (
    ADD_WATCH,
    CHILDREN,
    CLOSE,
    CREATE,
    EXISTS,
    GET,
    PING,
    REMOVE_WATCHES,
    SET,
    Wiretap,
)
from tests.servers.ports import free_port
from tests.servers.proxy import TcpProxy
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import eventually

HERE = "127.0.0.1"


# connecting


@pytest.mark.parametrize("script", [deaf, hangs_up, refuses, speaks_http, promises_too_much], ids=lambda s: s.__name__)
async def test_a_server_that_is_of_no_use_is_passed_over(script: Script, tap: Wiretap, root: str) -> None:
    async with scripted(script) as useless:
        for _ in range(30):  # the order of the hosts is a matter of chance
            async with opened(at(useless.port, tap.port, root=root, timeout=3)) as registry:
                await registry.put(copy(1))
            if useless.accepted:
                break
        assert useless.accepted


@pytest.mark.parametrize("script", [hangs_up, refuses, speaks_http], ids=lambda s: s.__name__)
async def test_useless_servers_are_asked_with_pauses_and_told_of_once(script: Script) -> None:
    """The pauses grow to a tenth of the time-out, 0.1 s, and are at least half of that."""
    log = Log()
    async with scripted(script) as server:
        async with opened(at(server.port, timeout=1), log) as registry:
            await eventually(lambda: server.accepted >= 5, "it is asked again and again")
            before, began = server.accepted, asyncio.get_running_loop().time()
            await eventually(lambda: server.accepted >= before + 20, "asked on and on")
            assert server.accepted - before <= (asyncio.get_running_loop().time() - began) / 0.05 + 1
            assert f"{HERE}:{server.port}" in registry.state
            assert "not connected" in registry.state
        assert len(log.of(Unreachable)) == 1


async def test_a_long_outage_is_told_again_and_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SHORTEST", 0.1)
    log = Log()
    async with scripted(refuses) as server, opened(at(server.port, timeout=1), log):
        await eventually(lambda: len(log.of(Unreachable)) >= 3, "told again")
        first, *_, last = log.of(Unreachable)
        assert first.reason == last.reason
        assert last.seconds >= 0.3
        assert len(log.of(Unreachable)) < server.accepted
        assert str(replace(last, seconds=48.2)).endswith("trying on, for 48 s by now")


async def test_a_deaf_server_is_told_of_and_left() -> None:
    log = Log()
    async with scripted(deaf) as server, opened(at(server.port, timeout=1.5), log) as registry:
        await eventually(lambda: server.accepted >= 2, "the connection is given up, and another made")
        assert "did not answer" in (await log.until(Unreachable)).reason
        assert "did not answer" in registry.state


async def test_all_addresses_of_a_name_are_tried(tap: Wiretap, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on the others; the name is looked up once for all of them."""
    loop = asyncio.get_running_loop()
    system, lookups = loop.getaddrinfo, 0

    async def resolver(host: Any, port: Any, **options: Any) -> Any:
        nonlocal lookups
        if host != "zk.example":
            return await system(host, port, **options)
        lookups += 1
        kind = (socket.SOCK_STREAM, 6, "")
        dead = [(socket.AF_INET, *kind, (f"127.0.0.{last}", port)) for last in range(2, 7)]
        return [(socket.AF_INET6, *kind, ("::1", port, 0, 0)), *dead, (socket.AF_INET, *kind, (HERE, port))]

    monkeypatch.setattr(loop, "getaddrinfo", resolver)
    log = Log()
    locator = replace(tap.locator(root), hosts=(Address("zk.example", tap.port),))
    async with opened(locator, log) as registry:
        await put_again(registry, copy(1))
        assert registry.state == f"connected to zk.example ({HERE}:{tap.port})"
    assert lookups == 1


async def test_a_name_that_cannot_be_resolved_is_told_of() -> None:
    log = Log()
    locator = replace(at(1), hosts=(Address("nowhere.invalid", 2181),))
    async with opened(locator, log):
        assert "nowhere.invalid could not be resolved" in (await log.until(Unreachable)).reason


# the session's time


async def test_the_servers_time_out_counts_and_an_idle_session_lives(
    tap: Wiretap, root: str, kazoo: KazooClient
) -> None:
    """A tenth of a second is asked for; the server's least is half a second."""
    log = Log()
    async with opened(tap.locator(root, 0.1), log) as registry:
        lease = await registry.put(copy(1))
        assert (await log.until(Connected)).timeout == 0.5
        await asyncio.sleep(2)
        assert registry.holds(lease)
        assert kazoo.get_children(root + PATH) == [lease.node]
        assert log.of(Suspended) == []
    assert tap.hellos[0].timeout == 100


async def test_one_ping_for_a_whole_session(tap: Wiretap, root: str) -> None:
    async with opened(tap.locator(root, 1.5)) as registry:
        leases = [await registry.put(copy(number)) for number in range(1, 51)]
        watch = registry.watch(PATH, NERVE)
        await until_ports(watch, list(range(1, 51)))
        await asyncio.sleep(0.1)
        before = len(tap.asked)
        await asyncio.sleep(2)
        counts = tap.counts(since=before)
        assert set(counts) == {PING}
        assert 3 <= counts[PING] <= 5
        assert all(registry.holds(lease) for lease in leases)


@pytest.mark.parametrize("moment", [0.0, 0.3, 0.6, 0.9])
async def test_silence_is_noticed_after_two_thirds_of_the_time_out(
    zookeeper: ZooKeeperServer, root: str, moment: float
) -> None:
    """Wherever between two pings (`moment`, in intervals) the last word was heard: the rest is for another server."""
    log, timeout = Log(), 4.5
    clock = asyncio.get_running_loop().time
    async with (
        TcpProxy(zookeeper.port) as proxy,
        opened(at(proxy.port, root=root, timeout=timeout), log) as registry,
    ):
        await registry.put(copy(1))
        await asyncio.sleep(moment * timeout / 3)
        lease = await registry.put(copy(1))
        proxy.silence()
        began = clock()
        await log.until(Suspended)
        assert 0.5 < (clock() - began) / timeout < 0.75
        await proxy.heal()
        await log.until(Connected, 2)
        assert log.of(Expired) == []
        assert registry.holds(lease)


# losing the connection


async def test_the_end_of_a_connection_fails_a_call_at_once(tap: Wiretap, root: str) -> None:
    """Long before a ping would notice it (20 s) or the call's own limit (45 s)."""
    async with opened(tap.locator(root, 60)) as registry:
        await registry.put(copy(1))
        lost = tap.lose_reply(SET)
        async with asyncio.timeout(5):
            with pytest.raises(RegistryUnavailable, match=r"connection|closed"):
                await registry.put(copy(1))
        assert lost.is_set()
        async with asyncio.timeout(5):
            await registry.put(copy(1))


async def test_a_cut_is_mended_at_once_with_the_same_session(tap: Wiretap, root: str) -> None:
    log = Log()
    async with opened(tap.locator(root, 60), log) as registry:
        await registry.put(copy(1))
        for count in range(2, 5):
            tap.cut()
            async with asyncio.timeout(2):
                await log.until(Connected, count)
        sessions = {event.session for event in log.of(Connected)}
        assert len(sessions) == 1
        assert [event.resumed for event in log.of(Connected)] == [False, True, True, True]
        assert [hello.session for hello in tap.hellos[1:]] == [*sessions] * 3
        assert all(hello.zxid > 0 for hello in tap.hellos[1:])
        assert len(log.of(Suspended)) == 3


@pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "one-shot"])
async def test_after_a_cut_nothing_is_written_and_no_request_is_large(
    tap: Wiretap, root: str, persistent: bool
) -> None:
    """A server refuses what is over its jute.maxbuffer, so nothing may grow with the number of watches."""
    log, numbers = Log(), list(range(1, 1001))
    async with opened(tap.locator(root), log, persistent) as registry:
        leases = await asyncio.gather(*(registry.put(copy(number)) for number in numbers))
        await until_ports(registry.watch(PATH, NERVE), numbers)
        await eventually(lambda: tap.count(EXISTS) >= 1000, "the watches on the new nodes are set")
        before = len(tap.asked)
        tap.cut()
        await log.until(Connected, 2)
        watch = registry.watch(PATH, NERVE)
        await until_ports(watch, numbers)
        await eventually(lambda: tap.count(EXISTS, before) >= 1000, "each node is asked for")
        counts = tap.counts(before)
        assert counts[EXISTS] == 1000
        assert set(counts) <= {EXISTS, GET, CHILDREN, ADD_WATCH, REMOVE_WATCHES, PING}
        assert max(asked.size for asked in tap.asked) < 1000
        assert all(registry.holds(lease) for lease in leases)


async def test_an_outage_of_most_of_the_time_out_keeps_the_session(zookeeper: ZooKeeperServer, root: str) -> None:
    """With pauses that double without end the session would be lost after the outage."""
    log, timeout = Log(), 6.0
    clock = asyncio.get_running_loop().time
    async with (
        TcpProxy(zookeeper.port) as proxy,
        opened(at(proxy.port, root=root, timeout=timeout), log) as registry,
    ):
        lease = await registry.put(copy(1))
        await proxy.refuse()
        await asyncio.sleep(0.6 * timeout)
        assert registry.holds(lease)
        assert "not connected for" in registry.state
        await proxy.heal()
        began = clock()
        await log.until(Connected, 2)
        assert clock() - began < timeout / 10 + 0.5
        assert log.of(Expired) == []
        assert registry.holds(lease)
        assert len(log.of(Unreachable)) == 1


async def test_calls_wait_for_the_connection(zookeeper: ZooKeeperServer, root: str) -> None:
    async with TcpProxy(zookeeper.port) as proxy, opened(at(proxy.port, root=root)) as registry:
        await registry.put(copy(1))
        await proxy.refuse()
        await eventually(lambda: "not connected" in registry.state, "the loss is known")
        waiting = asyncio.create_task(registry.put(copy(2)))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await proxy.heal()
        async with asyncio.timeout(5):
            await waiting


# the end of a session


async def test_a_session_whose_time_is_over_is_followed_by_a_new_one(zookeeper: ZooKeeperServer, root: str) -> None:
    log = Log()
    async with TcpProxy(zookeeper.port) as proxy, opened(at(proxy.port, root=root, timeout=1), log) as registry:
        lease = await registry.put(copy(1))
        watch = registry.watch(PATH, NERVE)
        await until_ports(watch, [1])
        await proxy.refuse()
        await asyncio.sleep(2.5)
        assert log.of(Expired) == []  # only the server can say so
        lost = asyncio.create_task(registry.lost(lease))
        await proxy.heal()
        expired = await log.until(Expired)
        async with asyncio.timeout(5):
            await lost
        assert not registry.holds(lease)
        again = await registry.put(copy(1))
        assert f"{expired.session:#x}" == lease.session != again.session
        assert again.node != lease.node
        await until(watch, lambda s: [i.id for i in s.instances] == [int(again.node[-10:])], "the new node alone")
        assert [event.resumed for event in log.of(Connected)] == [False, False]


async def test_a_server_that_has_lost_its_data_is_served_again(
    start_zookeeper: Callable[..., ZooKeeperServer], tmp_path: Path
) -> None:
    """It has seen fewer transactions than the client, and hangs up on it without a word."""
    server = start_zookeeper()
    log = Log()
    async with opened(at(server.port, timeout=2), log) as registry:
        for number in range(1, 10):
            lease = await registry.put(copy(number))
        watch = registry.watch(PATH, NERVE)
        await until_ports(watch, list(range(1, 10)))
        await asyncio.to_thread(server.kill)
        shutil.rmtree(server.directory / "data")
        await asyncio.to_thread(server.start)
        await log.until(Expired, limit=20)
        assert not registry.holds(lease)
        await put_again(registry, copy(1))
        await until_ports(watch, [1])


# closing


async def test_closing_while_it_connects() -> None:
    """To nobody, to a deaf server, and in the pauses between."""
    clock = asyncio.get_running_loop().time
    async with scripted(deaf) as server:
        for port, wait in ((free_port(), 0.0), (free_port(), 0.3), (server.port, 0.0), (server.port, 0.2)):
            async with opened(at(port)):
                await asyncio.sleep(wait)
                began = clock()
            assert clock() - began < 2
            assert [task for task in asyncio.all_tasks() if "dockstack/registry" in repr(task)] == []


async def test_closing_ends_the_session_on_the_server(tap: Wiretap, root: str, kazoo: KazooClient) -> None:
    async with opened(tap.locator(root, 60)) as registry:
        await registry.put(copy(1))
    assert kazoo.get_children(root + PATH) == []


async def test_an_error_in_the_block_closes_the_session_and_leaves_as_it_is(
    tap: Wiretap, root: str, kazoo: KazooClient
) -> None:
    async def fail() -> None:
        async with opened(tap.locator(root, 60)) as registry:
            await registry.put(copy(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert kazoo.get_children(root + PATH) == []


# what goes over the wire


@pytest.fixture
def owner(zookeeper: ZooKeeperServer) -> Iterator[KazooClient]:
    """A client that is not ours, and has the credentials user and pass:word."""
    owner = KazooClient(zookeeper.hosts, timeout=30, auth_data=[("digest", "user:pass:word")])
    owner.start(20)
    yield owner
    owner.stop()
    owner.close()


OWNERS = make_digest_acl("user", "pass:word", all=True)


async def test_a_private_path_is_told_of_and_read_once_it_is_opened(
    tap: Wiretap, root: str, owner: KazooClient
) -> None:
    owner.ensure_path(root)
    owner.create(root + "/private", b"", acl=[OWNERS])
    log = Log()
    async with opened(tap.locator(root), log) as registry:
        reading = asyncio.ensure_future(anext(registry.watch("/private", NERVE)))
        await eventually(lambda: any("NoAuth" in str(event) for event in log.events), "a word on it")
        assert not reading.done()
        owner.set_acls(root + "/private", [OWNERS, *OPEN_ACL_UNSAFE])
        async with asyncio.timeout(10):
            assert (await reading).instances == ()


async def test_no_four_letter_word_and_nothing_before_the_handshake(tap: Wiretap, root: str) -> None:
    async with opened(tap.locator(root)) as registry:
        await registry.put(copy(1))
    assert [hello.session for hello in tap.hellos] == [0]
    assert {asked.opcode for asked in tap.asked} <= {CREATE, GET, SET, EXISTS, PING, CLOSE}
