"""Following a registry, on the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from dockstack.errors import RegistryUnavailable
from dockstack.events import DEBUG, Event, Recovered, Retrying
from dockstack.model import Instance
from dockstack.registry import Decoder, Locator, Registry, Snapshot
from dockstack.registry.codec import NerveDecoder, ServersetDecoder
from dockstack.registry.memory import World
from dockstack.settings.discovery import BaseDiscovery, DecodeSettings
from dockstack.synapse.watchers._registry import RegistryWatcher, config_path, decoder

LIMIT = 5.0
LOCATOR = Locator("memory")


@dataclass
class Sessions:
    """A pool with one session, as the watchers see it."""

    registry: Registry
    asked: list[Locator] = field(default_factory=list)

    async def get(self, locator: Locator) -> Registry:
        self.asked.append(locator)
        return self.registry


def node(name: str, port: int) -> bytes:
    return f'{{"host":"10.0.0.1","port":{port},"name":"{name}"}}'.encode()


def watcher(registry: Registry, config: str | None = "/svc", pause: float = 0.0) -> RegistryWatcher:
    events: list[Event] = []
    return RegistryWatcher(LOCATOR, "/svc", NerveDecoder(), config, pause, Sessions(registry), events.append)


async def soon(stream: AsyncIterator[Snapshot]) -> Snapshot:
    async with asyncio.timeout(LIMIT):
        return await anext(stream)


async def test_the_whole_set_at_once_and_after_each_change() -> None:
    world = World()
    world.write("/svc", "a_1", node("a", 1))
    async with world.open(lambda event: None) as registry:
        stream = watcher(registry).follow()
        assert await soon(stream) == Snapshot((Instance("10.0.0.1", 1, "a", 1),))
        world.write("/svc", "b_2", node("b", 2))
        assert [one.name for one in (await soon(stream)).instances] == ["a", "b"]
        world.set_data("/svc", b"{}")
        assert (await soon(stream)).data == b"{}"


async def test_without_a_config_path_the_data_is_left_out() -> None:
    world = World()
    world.set_data("/svc", b"{}")
    async with world.open(lambda event: None) as registry:
        assert (await soon(watcher(registry, config=None).follow())).data == b""


def reads() -> list[str]:
    return [text for text in map(repr, asyncio.all_tasks()) if "_next()" in text]


async def test_the_data_of_another_path() -> None:
    world = World()
    world.write("/svc", "a_1", node("a", 1))
    world.set_data("/svc", b"not this")
    world.set_data("/config", b"one")
    world.write("/config", "x_1", b"no instance")
    async with world.open(lambda event: None) as registry:
        stream = watcher(registry, config="/config").follow()
        first = await soon(stream)
        assert (first.data, len(first.instances), first.problems) == (b"one", 1, ())
        world.set_data("/config", b"two")
        assert (await soon(stream)).data == b"two"
        world.write("/svc", "b_2", node("b", 2))
        assert len((await soon(stream)).instances) == 2
        assert reads()
        await stream.aclose()  # type: ignore[attr-defined]
        assert not reads()


class Flaky:
    """A registry that cannot be asked the first times."""

    def __init__(self, failures: int) -> None:
        self.left = failures

    async def watch(self, path: str, decoder: Decoder) -> AsyncIterator[Snapshot]:
        while self.left:
            self.left -= 1
            raise RegistryUnavailable("refused")
        yield Snapshot(())


async def test_a_registry_that_cannot_be_asked_is_silence_and_is_tried_again() -> None:
    events: list[Event] = []
    sessions = Sessions(Flaky(3))  # type: ignore[arg-type]
    found = RegistryWatcher(LOCATOR, "/svc", NerveDecoder(), "/svc", 0.0, sessions, events.append)
    assert await soon(found.follow()) == Snapshot(())
    assert [type(event) for event in events if event.level > DEBUG] == [Retrying] * 3 + [Recovered]
    assert "/svc" in str(events[0])
    assert sessions.asked == [LOCATOR] * 4


@pytest.mark.looptime
async def test_a_read_soon_after_the_last_waits_and_sees_the_newest() -> None:
    world = World()
    clock = asyncio.get_running_loop().time
    async with world.open(lambda event: None) as registry:
        stream = watcher(registry, pause=3.0).follow()
        start = clock()
        await soon(stream)
        assert clock() - start == 0
        reading = asyncio.ensure_future(anext(stream))
        for number in (1, 2, 3):
            world.write("/svc", f"a_{number}", node("a", number))
            await asyncio.sleep(0.1)
        assert len((await reading).instances) == 3
        assert clock() - start == pytest.approx(3.0)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(10)
        world.write("/svc", "a_4", node("a", 4))
        last = clock()
        await reading
        assert clock() - last == pytest.approx(0, abs=0.01)


def test_how_nodes_are_read() -> None:
    assert decoder(DecodeSettings()) == NerveDecoder()
    assert decoder(DecodeSettings(method="serverset", endpoint_name="http")) == ServersetDecoder("http")


@pytest.mark.parametrize(("said", "path"), [(None, "/svc"), ("disabled", None), ("/a//b/", "/a/b")])
def test_where_the_configuration_is_read(said: str | None, path: str | None) -> None:
    assert config_path(BaseDiscovery(method="base", generator_config_path=said), "/svc") == path
