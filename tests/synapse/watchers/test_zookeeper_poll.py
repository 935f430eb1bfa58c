"""Polling a path, on the registry in memory; and reading it once, on a real ZooKeeper."""

from __future__ import annotations

import asyncio
from typing import Any

from kazoo.client import KazooClient

from dockstack.events import Event
from dockstack.model import Instance
from dockstack.registry import Locator, Reader, Registry, Snapshot, open_registry
from dockstack.registry.codec import NerveDecoder
from dockstack.registry.memory import World
from dockstack.registry.url import parse_hosts
from dockstack.settings.discovery import ZookeeperPollDiscovery
from dockstack.synapse.watchers import zookeeper_poll
from dockstack.synapse.watchers.zookeeper_poll import PollingWatcher
from tests.servers.zookeeper import ZooKeeperServer
from tests.waiting import eventually


class Sessions:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def get(self, locator: Locator) -> Registry:
        return self._registry


def node(name: str, port: int) -> bytes:
    return f'{{"host":"10.0.0.1","port":{port},"name":"{name}"}}'.encode()


def watcher(registry: Registry, said: list[Event], **more: Any) -> PollingWatcher:
    settings = ZookeeperPollDiscovery.model_validate(
        {"method": "zookeeper_poll", "hosts": ["h"], "path": "/svc/", "polling_interval_sec": 0, **more}
    )
    built = zookeeper_poll.build(settings, Sessions(registry), said.append)
    assert isinstance(built, PollingWatcher)
    return built


def test_what_the_settings_come_to() -> None:
    settings = ZookeeperPollDiscovery.model_validate({"method": "zookeeper_poll", "hosts": ["h"], "path": "/svc/"})
    built = zookeeper_poll.build(settings, None, print)  # type: ignore[arg-type]
    assert isinstance(built, PollingWatcher)
    assert (built.path, built.config_path, built.interval) == ("/svc", "/svc", 60)
    assert built.locator.scheme == "zookeeper"


async def test_each_read_that_finds_something_else() -> None:
    world = World()
    world.write("/svc", "a_1", node("a", 1))
    world.set_data("/config", b"{}")
    said: list[Event] = []
    seen: list[Snapshot] = []
    async with world.open(lambda event: None) as registry:

        async def follow() -> None:
            async for snapshot in watcher(registry, said, generator_config_path="/config").follow():
                seen.append(snapshot)

        task = asyncio.create_task(follow())
        await eventually(lambda: len(seen) == 1, "the first")
        assert seen[0] == Snapshot((Instance("10.0.0.1", 1, "a", 1),), b"{}")
        world.break_()
        await eventually(lambda: len(said) > 0, "the failure is told")
        world.heal()
        world.write("/svc", "b_2", node("b", 2))
        await eventually(lambda: len(seen) == 2, "the second")
        assert [one.name for one in seen[1].instances] == ["a", "b"]
        task.cancel()
        await asyncio.wait((task,))


async def test_reading_once_makes_nothing(zookeeper: ZooKeeperServer) -> None:
    addresses, _ = parse_hosts([zookeeper.hosts], 2181)
    kazoo = KazooClient(hosts=zookeeper.hosts, timeout=30)
    await asyncio.to_thread(kazoo.start, 15)
    try:
        async with open_registry(Locator("zookeeper", addresses), lambda event: None) as registry:
            assert isinstance(registry, Reader)
            while True:
                async with asyncio.timeout(15):
                    nothing = await registry.read("/polled/none", NerveDecoder())
                    break
            assert (nothing, nothing.missing) == (Snapshot(()), True)
            assert kazoo.exists("/polled") is None
            kazoo.create("/polled/some/a_1", node("a", 1), makepath=True)
            kazoo.set("/polled/some", b"{}")
            found = await registry.read("/polled/some", NerveDecoder())
            assert found == Snapshot((Instance("10.0.0.1", 1, "a", 1),), b"{}")
    finally:
        await asyncio.to_thread(kazoo.stop)
        kazoo.close()
