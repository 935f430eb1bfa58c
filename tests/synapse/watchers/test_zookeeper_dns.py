"""Names in a registry, addresses in DNS: the registry in memory, a real ZooKeeper, and a real DNS server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kazoo.client import KazooClient

from dockstack.model import Instance
from dockstack.registry import Snapshot
from dockstack.registry.codec import ServersetDecoder
from dockstack.registry.memory import World
from dockstack.registry.pool import Pool
from dockstack.settings.discovery import ZookeeperDnsDiscovery, ZookeeperDnsPollDiscovery
from dockstack.synapse import agenda, nameserver
from dockstack.synapse.watchers import Sessions, Watcher, zookeeper_dns, zookeeper_dns_poll, zookeeper_poll
from dockstack.synapse.watchers._named import NamedWatcher
from dockstack.synapse.watchers._registry import RegistryWatcher
from dockstack.synapse.watchers.zookeeper_poll import PollingWatcher
from tests.servers.dns import DnsServer
from tests.servers.zookeeper import ZooKeeperServer
from tests.synapse.watchers import following
from tests.synapse.watchers.following import Followed
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come soon, so that the tests need not wait."""
    monkeypatch.setattr(agenda, "SHORTEST", 0.02)
    monkeypatch.setattr(agenda, "HOLD", 0.5)
    monkeypatch.setattr(nameserver, "LIMIT", 0.3)
    monkeypatch.setattr(zookeeper_poll, "SHORTEST", 0.02)


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer() as one:
        yield one


METHODS = ("zookeeper_dns", "zookeeper_dns_poll")


def built(method: str, sessions: Sessions, followed: Followed, server: DnsServer, **more: Any) -> Watcher:
    given = {
        "method": method,
        "hosts": ["h"],
        "path": "/svc",
        "nameserver": server.address,
        "check_interval": 0,
        **more,
    }
    if method == "zookeeper_dns":
        return zookeeper_dns.build(ZookeeperDnsDiscovery.model_validate(given), sessions, followed.said.append)
    own = ZookeeperDnsPollDiscovery.model_validate({"polling_interval_sec": 0, **given})
    return zookeeper_dns_poll.build(own, sessions, followed.said.append)


def node(name: str, host: str, labels: str = "{}") -> bytes:
    return f'{{"host":"{host}","port":80,"name":"{name}","weight":5,"labels":{labels}}}'.encode()


@pytest.mark.parametrize("method", METHODS)
async def test_nodes_name_hosts(server: DnsServer, method: str) -> None:
    server.set("a.test", "A", "10.0.0.1", "10.0.0.2")
    server.set("b.test", "A", "10.0.0.3")
    world = World()
    world.write("/svc", "a_0000000007", node("a", "a.test", '{"az":"x"}'))
    world.set_data("/svc", b'{"haproxy":{}}')
    followed = Followed()
    async with world.open(lambda event: None) as registry:
        watcher = built(method, following.Sessions(registry), followed, server)
        async with followed.following(watcher):
            await eventually(lambda: bool(followed.seen), "the first set")
            assert followed.seen[0] == Snapshot(
                tuple(Instance(host, 80, "a", 7, 5, labels='{"az":"x"}') for host in ("10.0.0.1", "10.0.0.2")),
                b'{"haproxy":{}}',
            )
            world.write("/svc", "b_0000000008", node("b", "b.test"))
            await eventually(lambda: followed.hosts == ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "another node")
            server.set("a.test", "A", "10.0.0.9")
            await eventually(lambda: followed.hosts == ["10.0.0.9", "10.0.0.3"], "another address")
            world.write("/svc", "c_0000000009", b"no instance")
            await eventually(lambda: len(followed.problems) == 1, "a bad node is named")
            world.delete("/svc", "a_0000000007")
            await eventually(lambda: followed.hosts == ["10.0.0.3"], "a node less")
            world.delete("/svc", "b_0000000008")
            await eventually(lambda: followed.hosts == [], "no nodes")


@pytest.mark.parametrize("method", METHODS)
async def test_no_failure_makes_the_set_empty(server: DnsServer, method: str) -> None:
    server.set("a.test", "A", "10.0.0.1")
    world = World()
    world.write("/svc", "a_1", node("a", "a.test"))
    followed = Followed()
    async with (
        world.open(lambda event: None) as registry,
        followed.following(built(method, following.Sessions(registry), followed, server)),
    ):
        await eventually(lambda: followed.hosts == ["10.0.0.1"], "the first set")
        await server.stop()
        world.write("/svc", "a_1", node("a", "new.test"))
        await eventually(lambda: any("new.test" in one for one in followed.problems), "DNS is named", 15)
        world.break_()
        await server.start()
        server.set("new.test", "A", "10.0.0.2")
        await eventually(lambda: followed.hosts == ["10.0.0.2"], "DNS is back while the registry is away", 15)
        world.heal()
        world.write("/svc", "a_1", node("a", "10.0.0.3"))
        await eventually(lambda: followed.hosts == ["10.0.0.3"], "the registry is back")
    assert all(one.instances for one in followed.seen)


def test_the_keys_of_zookeeper_count() -> None:
    followed = Followed()
    decode = {"method": "serverset", "endpoint_name": "http"}
    one = DnsServer(1)
    found = built("zookeeper_dns", following.Sessions(), followed, one, decode=decode, generator_config_path="disabled")
    assert isinstance(found, NamedWatcher)
    assert isinstance(found.members, RegistryWatcher)
    assert (found.members.decoder, found.members.config_path) == (ServersetDecoder("http"), None)
    found = built("zookeeper_dns_poll", following.Sessions(), followed, one, polling_interval_sec=7)
    assert isinstance(found, NamedWatcher)
    assert isinstance(found.members, PollingWatcher)
    assert found.members.interval == 7


async def test_a_real_zookeeper(zookeeper: ZooKeeperServer, server: DnsServer) -> None:
    server.set("a.test", "A", "10.0.0.1")
    kazoo = KazooClient(hosts=zookeeper.hosts, timeout=30)
    await asyncio.to_thread(kazoo.start, 15)
    followed = Followed()
    try:
        kazoo.create("/dns/svc/a_", node("a", "a.test"), makepath=True, sequence=True)
        async with Pool(followed.said.append) as pool:
            watcher = built("zookeeper_dns", pool, followed, server, hosts=[zookeeper.hosts], path="/dns/svc")
            async with followed.following(watcher):
                await eventually(lambda: followed.hosts == ["10.0.0.1"], "the set", 20)
                assert followed.seen[-1].instances[0].id == 0
    finally:
        await asyncio.to_thread(kazoo.stop)
        kazoo.close()
