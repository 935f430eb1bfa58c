"""The thirteen ways in which a ZooKeeper session fails a daemon that must keep ephemerals alive, one test for each."""

from __future__ import annotations

import asyncio
import struct
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiozk.protocol.acl import UNRESTRICTED_ACCESS
from aiozk.protocol.create import CreateRequest
from aiozk.protocol.data import SetDataRequest
from aiozk.protocol.exists import ExistsRequest
from aiozk.protocol.transaction import TransactionRequest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from dockstack.errors import ConfigurationError, RegistryUnavailable
from dockstack.registry import Locator, NodeKind, Snapshot, Tls
from dockstack.registry.url import parse_hosts
from dockstack.registry.zookeeper import ZooKeeper
from dockstack.registry.zookeeper.connection import Interrupted
from dockstack.registry.zookeeper.events import Connected, Expired, Unreachable
from tests.conftest import StartZooKeeper
from tests.registry.snapshots import ports, until
from tests.registry.zookeeper.certificates import SecureServer
from tests.registry.zookeeper.clients import at, call, linked, put_again
from tests.registry.zookeeper.recording import NERVE, PATH, Log, copy, opened
from tests.registry.zookeeper.scripted import Script, frame, hangs_up, refuses, scripted, welcome
from tests.registry.zookeeper.wiretap import AUTH, CHILDREN, CREATE, EXISTS, Wiretap
from tests.servers.ports import free_port
from tests.servers.proxy import TcpProxy
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import eventually


async def test_01_a_server_that_accepts_and_never_answers_hangs_nothing(zookeeper: ZooKeeperServer, root: str) -> None:
    log = Log()
    async with TcpProxy(zookeeper.port) as proxy:
        proxy.silence()
        async with opened(at(proxy.port, root=root, timeout=1.0), log) as registry:
            with pytest.raises(RegistryUnavailable):
                await registry.put(copy(1))
            await eventually(lambda: proxy.accepted > 1, "it tries again")
            await eventually(lambda: bool(log.of(Unreachable)), "the operator is told")
            assert "did not answer" in str(log.of(Unreachable)[0])
            await proxy.heal()
            await linked(registry)
            assert registry.holds(await registry.put(copy(1)))


async def test_01_and_the_other_hosts_are_asked_meanwhile(zookeeper: ZooKeeperServer) -> None:
    async with TcpProxy(zookeeper.port) as silent:
        silent.silence()
        for _ in range(3):  # the order of the hosts is random
            async with opened(at(silent.port, zookeeper.port)) as registry:
                await linked(registry)
                assert str(zookeeper.port) in registry.state


@pytest.mark.parametrize("persistent", [True, False])
async def test_02_twenty_thousand_watches_and_a_cut(
    zookeeper: ZooKeeperServer, many: str, kazoo: KazooClient, persistent: bool
) -> None:
    async with (
        TcpProxy(zookeeper.port) as proxy,
        opened(at(proxy.port, timeout=6.0), persistent=persistent) as registry,
    ):
        snapshots = registry.watch(many, NERVE)
        whole = await until(snapshots, lambda seen: len(seen.instances) == 20_000, "all nodes", 60)
        proxy.cut()
        again = await until(snapshots, lambda seen: len(seen.instances) == 20_000, "all nodes again", 60)
        assert again.instances == whole.instances
        new = f"{many}/new_{persistent}_"
        kazoo.create(new, b'{"host":"10.0.0.1","port":30000}')
        await until(snapshots, lambda seen: ports(seen)[-1] == 30_000, "a change after the cut", 60)
        kazoo.delete(new)
        await until(snapshots, lambda seen: ports(seen)[-1] == 20_000, "another change", 60)


@pytest.fixture(scope="module")
def many(kazoo: KazooClient) -> str:
    """A path with 20,000 nodes."""
    path = "/unit/many"
    kazoo.ensure_path(path)
    writes = [
        kazoo.create_async(f"{path}/n_{number:010d}", b'{"host":"10.0.0.1","port":%d}' % number)
        for number in range(1, 20_001)
    ]
    for write in writes:
        write.get(timeout=60)
    return path


async def test_03_a_cut_fails_pending_calls_and_reconnects_at_once(tap: Wiretap) -> None:
    # Half a minute of time-out: what happens within seconds is not the heartbeat's doing.
    async with opened(at(tap.port, timeout=30.0)) as registry:
        await linked(registry)
        session = registry.session.id
        tap.hold(EXISTS)
        pending = asyncio.ensure_future(call(registry, ExistsRequest(path="/", watch=False)))
        await asyncio.sleep(0)
        connection = await registry.session.connected()
        await eventually(lambda: len(tap.hellos) == 1, "a connection")
        tap.cut()
        with pytest.raises(Interrupted):
            async with asyncio.timeout(3):
                await pending
        assert connection.closed.done()
        await linked(registry, 3)
        assert [hello.session for hello in tap.hellos] == [0, session]


async def test_04_an_outage_of_half_the_timeout_ends_no_session(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    log = Log()
    async with TcpProxy(zookeeper.port) as proxy, opened(at(proxy.port, root=root, timeout=4.0), log) as registry:
        lease = await registry.put(copy(1))
        await proxy.refuse()
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            assert kazoo.get_children(root + PATH) == [lease.node]
            await asyncio.sleep(0.05)
        await proxy.heal()
        await linked(registry, 2)
        assert [event.resumed for event in log.of(Connected)] == [False, True]
        assert not log.of(Expired)
        assert kazoo.get_children(root + PATH) == [lease.node]
        assert registry.holds(lease)


async def gives_and_takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Gives a session and hangs up; whoever comes back with it hears that it has expired."""
    _, _, _, session = struct.unpack_from("!iqiq", await frame(reader))
    writer.write(welcome(0 if session else 7))
    await writer.drain()


@pytest.mark.parametrize("script", [refuses, hangs_up, gives_and_takes])
async def test_05_a_refused_session_is_asked_for_with_pauses(script: Script) -> None:
    async with scripted(script) as server, opened(at(server.port, timeout=2.0)):
        await asyncio.sleep(1.5)  # the time in which attempts are counted
        # 50 ms at first, 200 ms in the end, half of it at least; a refusal is followed by one attempt at once.
        assert 4 <= server.accepted <= 45


async def test_06_a_host_list_is_read_as_people_write_it(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    hosts, chroot = parse_hosts([f"no-such-host.invalid:2181 , 127.0.0.1:{zookeeper.port}{root}"], 2181)
    async with opened(Locator("zookeeper", hosts, chroot, session_timeout=3.0)) as registry:
        lease = await registry.put(copy(1))
        assert kazoo.get_children(root + PATH) == [lease.node]
        snapshot = await anext(aiter(registry.watch(PATH, NERVE)))
        assert ports(snapshot) == [1]


async def test_06_a_host_list_without_a_host_is_the_users_error() -> None:
    with pytest.raises(ConfigurationError, match="no ZooKeeper host"):
        async with opened(Locator("zookeeper")):
            pass


@pytest.mark.parametrize("fault", ["none", "refused", "silent", "lost"])
async def test_07_closing_is_bounded_and_leaves_no_task(zookeeper: ZooKeeperServer, root: str, fault: str) -> None:
    async with TcpProxy(zookeeper.port) as proxy:
        if fault == "refused":
            await proxy.refuse()
        before = asyncio.all_tasks()
        async with AsyncExitStack() as stack:
            registry = await stack.enter_async_context(opened(at(proxy.port, root=root, timeout=30.0)))
            if fault != "refused":
                await registry.put(copy(1))
            watch = asyncio.ensure_future(_first(registry))
            await asyncio.sleep(0)
            if fault == "silent":
                proxy.silence()
            elif fault == "lost":
                await proxy.refuse()
            watch.cancel()
            await asyncio.wait({watch})
            began = time.monotonic()
        assert time.monotonic() - began < 2.0  # the bound that the project promises
        ours = [task for task in asyncio.all_tasks() - before if "Proxy" not in repr(task)]
        assert not ours


async def _first(registry: ZooKeeper) -> Snapshot:
    return await anext(aiter(registry.watch(PATH, NERVE)))


async def test_08_the_end_of_the_file_inside_a_reply_is_a_lost_connection(zookeeper: ZooKeeperServer) -> None:
    async with TcpProxy(zookeeper.port) as proxy, opened(at(proxy.port, timeout=30.0)) as registry:
        await linked(registry)
        proxy.cut_in_reply(6)
        began = time.process_time()
        with pytest.raises(Interrupted):
            await call(registry, ExistsRequest(path="/", watch=False))
        await linked(registry)
        assert (await call(registry, ExistsRequest(path="/", watch=False))).stat.ephemeral_owner == 0
        assert proxy.accepted == 2
        assert time.process_time() - began < 1.0  # a loop at the end of the file would have eaten the wait


async def test_09_no_request_is_repeated_behind_the_callers_back(tap: Wiretap) -> None:
    request = ExistsRequest(path="/", watch=False)
    async with opened(at(tap.port)) as registry:
        for number in range(1, 6):
            await linked(registry)
            tap.lose_reply(EXISTS)
            with pytest.raises(Interrupted):
                await call(registry, request)
            assert tap.count(EXISTS) == number
        await call(registry, request)


@pytest.mark.parametrize("kind", [NodeKind.EPHEMERAL_SEQUENTIAL, NodeKind.PERSISTENT_SEQUENTIAL])
@pytest.mark.parametrize("cut_again", [False, True])
async def test_10_a_create_whose_answer_is_lost_leaves_one_node(
    tap: Wiretap, kazoo: KazooClient, root: str, kind: NodeKind, cut_again: bool
) -> None:
    kazoo.ensure_path(root + PATH)
    async with opened(at(tap.port, root=root)) as registry:
        await linked(registry)
        created = tap.lose_reply(CREATE)
        if cut_again:
            tap.lose_reply(CHILDREN)
            with pytest.raises(RegistryUnavailable):
                await registry.put(copy(1, kind=kind))
        lease = await registry.put(copy(1, kind=kind))
        assert created.is_set()
        assert kazoo.get_children(root + PATH) == [lease.node]
        assert tap.count(CREATE) == 1
        assert registry.holds(lease)
        await registry.remove(lease)
        assert kazoo.get_children(root + PATH) == []


async def test_11_expiry_ends_every_lease_and_is_told(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    log = Log()
    async with TcpProxy(zookeeper.port) as proxy, opened(at(proxy.port, root=root, timeout=0.5), log) as registry:
        lease = await registry.put(copy(1))
        lost = asyncio.ensure_future(registry.lost(lease))
        await proxy.refuse()
        await eventually(lambda: kazoo.get_children(root + PATH) == [], "the server has ended the session")
        assert registry.holds(lease)  # nobody has said so yet
        await proxy.heal()
        async with asyncio.timeout(5):
            await lost
            assert not registry.holds(lease)
            again = await put_again(registry, copy(1))
        assert again.session != lease.session
        assert kazoo.get_children(root + PATH) == [again.node]
        assert len(log.of(Expired)) == 1


async def test_12_a_transaction_gives_the_names_of_its_sequential_nodes(
    zookeeper: ZooKeeperServer, kazoo: KazooClient, root: str
) -> None:
    kazoo.ensure_path(root)
    async with opened(at(zookeeper.port)) as registry:
        request = TransactionRequest()
        for name in ("a_", "b_"):
            part = CreateRequest(path=f"{root}/{name}", data=b"", acl=[UNRESTRICTED_ACCESS])
            part.set_flags(sequential=True)
            request.add(part)
        answer = await call(registry, request)
        assert [part.path for part in answer.responses] == [f"{root}/a_0000000000", f"{root}/b_0000000001"]


async def test_13_digest_authentication_is_sent_after_every_connect(
    tap: Wiretap, kazoo: KazooClient, root: str
) -> None:
    kazoo.ensure_path(root + PATH)
    node, data = f"{root}{PATH}/i_0000000001", b'{"host":"10.0.0.1","port":7}'
    kazoo.create(node, data, acl=[make_digest_acl("user", "pass:word", all=True)])
    async with opened(at(tap.port, root=root, user="user:pass:word")) as registry:
        snapshots = aiter(registry.watch(PATH, NERVE))
        assert ports(await anext(snapshots)) == [7]
        tap.cut()
        assert ports(await anext(snapshots)) == [7]
        await call(registry, SetDataRequest(path=node, data=data, version=-1))
    assert (len(tap.hellos), tap.count(AUTH)) == (2, 2)


@pytest.mark.parametrize("verify", [True, False])
async def test_13_tls(secure: SecureServer, verify: bool) -> None:
    tls = Tls(ca_file=secure.ca_file) if verify else Tls(verify=False)
    async with opened(at(secure.port, tls=tls)) as registry:
        await linked(registry)
        lease = await registry.put(copy(1))
        assert ports(await anext(aiter(registry.watch(PATH, NERVE)))) == [1]
        await registry.remove(lease)


async def test_13_a_certificate_that_nobody_vouches_for_is_refused(secure: SecureServer) -> None:
    log = Log()
    async with opened(at(secure.port, tls=Tls(), timeout=4.0), log) as registry:
        with pytest.raises(RegistryUnavailable):
            await registry.put(copy(1))
        assert "certificate" in str(log.of(Unreachable)[0]).lower()


async def test_13_tls_towards_a_server_without_tls_is_bounded(zookeeper: ZooKeeperServer) -> None:
    async with opened(at(zookeeper.port, tls=Tls(verify=False), timeout=1.0)) as registry:
        with pytest.raises(RegistryUnavailable):
            await registry.put(copy(1))


async def test_13_tls_files_that_cannot_be_read_are_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        async with opened(at(free_port(), tls=Tls(ca_file=str(tmp_path / "absent.pem")))):
            pass


@pytest.fixture
def secure(start_zookeeper: StartZooKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecureServer:
    return SecureServer(start_zookeeper, tmp_path, monkeypatch)
