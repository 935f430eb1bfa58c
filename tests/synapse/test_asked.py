"""Services whose servers DNS and Marathon know, from the source to the picture: no failure empties one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from kazoo.client import KazooClient

from dockstack.documents import Document
from dockstack.events import Event
from dockstack.registry.pool import Pool
from dockstack.runtime.latest import Latest
from dockstack.settings import load
from dockstack.synapse import agenda, nameserver
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.watchers import marathon, zookeeper_poll
from dockstack.synapse.world import World
from tests.servers.dns import DnsServer
from tests.servers.marathon import Marathon
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import eventually

TOP = {"global": [], "defaults": [], "do_writes": False, "do_reloads": False, "do_socket": False}
SPARE = {"default_servers": [{"host": "10.9.9.9", "port": 9}], "use_previous_backends": False}


@dataclass
class Scene:
    """A world of services; `hosts` are those in the newest picture."""

    dns: DnsServer
    marathon: Marathon
    said: list[str] = field(default_factory=list)
    pictures: Latest[Picture] = field(default_factory=Latest)
    world: World | None = None

    def tell(self, event: Event) -> None:
        self.said.append(str(event))

    def hosts(self, service: str) -> list[str]:
        picture = self.pictures.peek()
        entry = None if picture is None else picture.catalog.entries.get(service)
        return [] if entry is None else [one.host for one in entry.instances]

    @property
    def trouble(self) -> str:
        return "\n".join(self.world.trouble) if self.world else ""

    @asynccontextmanager
    async def following(self, **services: dict[str, Any]) -> AsyncIterator[None]:
        document = Document({"haproxy": TOP, "services": services}, {(): "file"})
        settings = load.synapse(document).settings
        assert settings.haproxy is not None
        async with Pool(self.tell) as pool:
            self.world = World(Layout(settings.haproxy, (), "host"), settings, pool, self.tell)
            task = asyncio.create_task(self.world.follow(self.pictures, 5.0))
            try:
                yield
                assert not task.done()
            finally:
                task.cancel()
                await asyncio.wait((task,))


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    for module in (agenda, marathon, zookeeper_poll):
        monkeypatch.setattr(module, "SHORTEST", 0.02)
    monkeypatch.setattr(nameserver, "LIMIT", 0.3)
    async with DnsServer() as dns, Marathon() as apps:
        yield Scene(dns, apps)


def dns_of(scene: Scene, *hosts: str) -> dict[str, Any]:
    servers = [{"host": host, "port": 80, "labels": {"host": host}} for host in hosts]
    return {"method": "dns", "servers": servers, "nameserver": scene.dns.address, "check_interval": 0}


def marathon_of(scene: Scene) -> dict[str, Any]:
    return {
        "method": "marathon",
        "marathon_api_url": scene.marathon.url,
        "application_name": "web",
        "check_interval": 0,
    }


def task(host: str) -> dict[str, Any]:
    return {"id": host, "host": host, "ports": [31000], "startedAt": "now"}


async def test_names_reach_the_picture_and_a_nameserver_that_fails_takes_nothing_away(scene: Scene) -> None:
    scene.dns.set("a.test", "A", "10.0.0.1", "10.0.0.2")
    scene.dns.set("b.test", "A", "10.0.0.3")
    filtered = {**dns_of(scene, "a.test", "b.test"), "label_filters": [{"label": "host", "value": "b.test"}]}
    async with scene.following(
        web={"discovery": dns_of(scene, "a.test", "b.test"), **SPARE},
        some={"discovery": filtered, "backend_port_override": 99},
    ):
        await eventually(lambda: scene.hosts("web") == ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "the addresses")
        picture = scene.pictures.peek()
        assert picture is not None
        assert [(one.host, one.port) for one in picture.catalog.entries["some"].instances] == [("10.0.0.3", 99)]
        await scene.dns.stop()
        await eventually(lambda: "a.test cannot be looked up" in scene.trouble, "the failure is named")
        await eventually(lambda: "b.test cannot be looked up" in scene.trouble, "the other one, too")
        assert any(one.startswith("service web: the A records of a.test cannot be looked up") for one in scene.said)
        assert scene.hosts("web") == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        await scene.dns.start()
        scene.dns.remove("a.test")
        scene.dns.set("b.test", "A", "10.0.0.4")
        await eventually(lambda: scene.hosts("web") == ["10.0.0.1", "10.0.0.2", "10.0.0.4"], "it goes on")
        assert "a.test cannot be looked up (there is no such name: NXDOMAIN)" in scene.trouble
        scene.dns.set("a.test", "A")
        scene.dns.set("b.test", "A")
        await eventually(lambda: scene.hosts("web") == ["10.9.9.9"], "an answer without addresses is an answer")


async def test_tasks_reach_the_picture_and_a_marathon_that_fails_takes_nothing_away(scene: Scene) -> None:
    scene.marathon.has(task("h1"), task("h2"))
    async with scene.following(web={"discovery": marathon_of(scene), **SPARE}):
        await eventually(lambda: scene.hosts("web") == ["h1", "h2"], "the tasks")
        scene.marathon.status = 503
        await eventually(lambda: any("it answered 503" in one for one in scene.said), "the failure is named")
        assert scene.hosts("web") == ["h1", "h2"]
        scene.marathon.status = 200
        scene.marathon.has()
        await eventually(lambda: scene.hosts("web") == ["10.9.9.9"], "no tasks are an answer")


@pytest.mark.parametrize("method", ["zookeeper_dns", "zookeeper_dns_poll"])
async def test_names_in_zookeeper_reach_the_picture(scene: Scene, zookeeper: ZooKeeperServer, method: str) -> None:
    path = f"/asked/{method}"
    scene.dns.set("a.test", "A", "10.0.0.1")
    scene.dns.set("b.test", "A", "10.0.0.2")
    kazoo = KazooClient(hosts=zookeeper.hosts, timeout=30)
    await asyncio.to_thread(kazoo.start, 15)
    discovery: dict[str, Any] = {
        "method": method,
        "hosts": [zookeeper.hosts],
        "path": path,
        "nameserver": scene.dns.address,
        "check_interval": 0,
        "label_filter": {"label": "az", "value": "x"},
    }
    if method == "zookeeper_dns_poll":
        discovery["polling_interval_sec"] = 0
    try:
        for host, zone in (("a.test", "x"), ("b.test", "y")):
            data = f'{{"host":"{host}","port":80,"name":"n","labels":{{"az":"{zone}"}}}}'
            kazoo.create(f"{path}/n_", data.encode(), makepath=True, sequence=True)
        async with scene.following(
            web={"discovery": discovery},
            first={"discovery": {**discovery, "label_filter": None}, "leader_election": True},
        ):
            await eventually(lambda: scene.hosts("web") == ["10.0.0.1"], "the one that passes", 20)
            await eventually(lambda: scene.hosts("first") == ["10.0.0.1"], "the smallest id", 20)
            scene.dns.rcodes["a.test"] = "SERVFAIL"
            await eventually(lambda: "SERVFAIL" in scene.trouble, "the failure is named")
            assert scene.hosts("web") == ["10.0.0.1"]
            scene.dns.rcodes.clear()
            scene.dns.set("a.test", "A", "10.0.0.9")
            await eventually(lambda: scene.hosts("web") == ["10.0.0.9"], "another address")
    finally:
        await asyncio.to_thread(kazoo.stop)
        kazoo.close()


async def test_several_sources_of_one_service(scene: Scene) -> None:
    scene.dns.set("a.test", "A", "10.0.0.1")
    scene.marathon.has(task("h1"))
    many = {"watchers": {"tasks": marathon_of(scene)}, "resolver": {"method": "union"}}
    order = {"method": "sequential", "sequential_order": ["names", "tasks"]}
    one = {"watchers": {"names": dns_of(scene, "a.test"), "tasks": marathon_of(scene)}, "resolver": order}
    async with scene.following(
        both={"discovery": dns_of(scene, "a.test"), "discovery_multi": many},
        first={"discovery": {"method": "multi", **one}},
    ):
        await eventually(lambda: set(scene.hosts("both")) == {"10.0.0.1", "h1"}, "both")
        await eventually(lambda: scene.hosts("first") == ["10.0.0.1"], "the first")
        await scene.marathon.stop()
        scene.dns.rcodes["a.test"] = "SERVFAIL"
        await eventually(lambda: "SERVFAIL" in scene.trouble, "the failure is named")
        assert set(scene.hosts("both")) == {"10.0.0.1", "h1"}
        assert scene.hosts("first") == ["10.0.0.1"]
