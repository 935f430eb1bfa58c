from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dockstack import plugins
from dockstack.errors import ConfigurationError
from dockstack.events import Emit, Event
from dockstack.model import Entry, Instance
from dockstack.registry import Locator, Registration, Registry, memory
from dockstack.registry.events import SessionUsed
from dockstack.registry.pool import Pool
from dockstack.runtime.latest import Latest
from dockstack.settings.common import OFFERED
from dockstack.settings.synapse import SynapseSettings
from dockstack.synapse.events import ConfigurationUnusable
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.snapshot import Saved
from dockstack.synapse.world import World
from tests.installing import install
from tests.waiting import eventually


@dataclass
class Scene:
    """A world of services on a registry in memory."""

    registry: memory.World
    pool: Pool
    announcer: Registry
    of_the_pool: list[Event]
    said: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    pictures: Latest[Picture] = field(default_factory=Latest)

    def tell(self, event: Event) -> None:
        self.said.append(str(event))
        self.events.append(event)

    def world(self, services: dict[str, Any]) -> World:
        layout, settings = self.settings(services)
        return World(layout, settings, self.pool, self.tell)

    @staticmethod
    def settings(services: dict[str, Any]) -> tuple[Layout, SynapseSettings]:
        settings = SynapseSettings.model_validate(
            {"services": services, "haproxy": {"global": [], "defaults": [], "do_writes": False, "do_socket": False}},
            context={OFFERED: plugins.offered},
        )
        assert settings.haproxy is not None
        return Layout(settings.haproxy, (), "host"), settings

    async def change(self, world: World, services: dict[str, Any], grace: float = 5.0) -> None:
        world.take(await world.prepared(*self.settings(services), grace))

    @asynccontextmanager
    async def following(self, world: World, grace: float = 5.0) -> AsyncIterator[None]:
        task = asyncio.create_task(world.follow(self.pictures, grace))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def announce(self, path: str, name: str, **more: Any) -> None:
        instance = Instance("10.0.0.1", 80, name, **more)
        await self.announcer.put(Registration(f"{path}/{name}", path, instance))

    def names(self, service: str = "web") -> set[str | None]:
        picture = self.pictures.peek()
        return set() if picture is None else {one.name for one in picture.catalog.entries[service].instances}


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    registry = memory.World()

    def open_one(locator: Locator, emit: Emit) -> AbstractAsyncContextManager[Registry]:
        return registry.open(emit)

    def ignore(event: Event) -> None:
        """Nobody listens."""

    of_the_pool: list[Event] = []
    async with Pool(of_the_pool.append, open_one) as pool, registry.open(ignore) as announcer:
        yield Scene(registry, pool, announcer, of_the_pool)


def service(path: str = "/web", port: int = 80, **more: Any) -> dict[str, Any]:
    return {
        "discovery": {"method": "zookeeper", "hosts": ["h:1"], "path": path},
        "haproxy": {"port": port, "listen": ["mode http"]},
        **more,
    }


async def test_the_first_picture_waits_for_every_watcher(scene: Scene) -> None:
    await scene.announce("/web", "a")
    async with scene.following(scene.world({"web": service(), "db": service("/db", 81)})):
        await eventually(lambda: scene.names() == {"a"}, "the picture")
        picture = scene.pictures.peek()
        assert picture is not None
        assert picture.catalog.entries["db"] == Entry(())
        await scene.announce("/web", "b")
        await eventually(lambda: scene.names() == {"a", "b"}, "the change")
        newer = scene.pictures.peek()
        assert newer is not None
        assert newer.services is picture.services
        assert newer.catalog.entries["db"] is picture.catalog.entries["db"]


async def test_a_session_is_asked_for_in_the_name_of_the_service(scene: Scene) -> None:
    async with scene.following(scene.world({"web": service(), "db": service("/db", 81)})):
        await eventually(lambda: scene.pictures.peek() is not None, "the picture")
    used = [(one.fresh, one.user) for one in scene.of_the_pool if isinstance(one, SessionUsed)]
    assert used == [(True, "web"), (False, "db")]


async def test_without_a_registry_default_servers_serve_after_the_grace(scene: Scene) -> None:
    scene.registry.break_()
    world = scene.world({"web": service(default_servers=[{"host": "10.0.0.9", "port": 9, "name": "spare"}])})
    async with scene.following(world, grace=0.1):
        await eventually(lambda: scene.names() == {"spare"}, "the default server")
        assert any("no answer yet about web" in text for text in scene.said)
        assert "service web: its watcher has not answered yet" in world.trouble
        scene.registry.heal()
        await scene.announce("/web", "a")
        await eventually(lambda: scene.names() == {"a"}, "the real one")
        assert world.trouble == ()


async def test_without_a_registry_what_was_saved_serves(scene: Scene) -> None:
    scene.registry.break_()
    world = scene.world({"web": service(default_servers=[{"host": "10.0.0.9", "port": 9, "name": "spare"}])})
    config = '{"haproxy": {"port": 8080, "listen": ["mode tcp"]}}'
    world.restore({"web": Saved("", Entry((Instance("10.0.0.1", 80, "saved"),)), {}, config)})
    async with scene.following(world, grace=0.1):
        await eventually(lambda: scene.names() == {"saved"}, "the saved one")
        picture = scene.pictures.peek()
        assert picture is not None
        assert picture.services["web"].haproxy.port == 8080
        assert world.config("web") == config


async def test_the_registry_may_have_a_service_s_section_for_an_output_of_a_plug_in(scene: Scene) -> None:
    scene.registry.set_data("/web", b'{"acme": {"x": 1}}')
    layout, settings = scene.settings({"web": service()})
    world = World(layout, settings.with_sections({"acme": {}}), scene.pool, scene.tell)
    async with scene.following(world):
        await eventually(lambda: scene.pictures.peek() is not None, "the picture")
        picture = scene.pictures.peek()
        assert picture is not None
        assert picture.services["web"].sections == {"acme": {"x": 1}}
        assert world.trouble == ()


async def test_a_registry_that_is_lost_keeps_the_picture(scene: Scene) -> None:
    await scene.announce("/web", "a")
    async with scene.following(scene.world({"web": service()})):
        await eventually(lambda: scene.names() == {"a"}, "the picture")
        scene.registry.break_()
        scene.registry.expire()
        await asyncio.sleep(0.05)
        assert scene.names() == {"a"}


async def test_the_registrys_configuration_is_served_live(scene: Scene) -> None:
    await scene.announce("/web", "a")
    async with scene.following(scene.world({"web": service()})):
        await eventually(lambda: scene.names() == {"a"}, "the picture")
        scene.registry.set_data("/web", b'{"haproxy": {"port": 8080, "listen": ["mode tcp"]}}')
        await eventually(lambda: port(scene) == 8080, "the registry's port")
        scene.registry.set_data("/web", b"")
        await scene.announce("/web", "b")
        await eventually(lambda: scene.names() == {"a", "b"}, "the next change")
        assert port(scene) == 8080  # emptied data keeps the last good one


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "is no JSON"),
        (b"[1]", "is no map of outputs"),
        (b'{"nginx": {}}', "'nginx'"),
        (b'{"haproxy": null}', "'haproxy'"),
        (b'{"file_output": {}}', "not configured here"),
    ],
)
async def test_a_configuration_that_says_nothing_usable_keeps_the_last_good_one(
    scene: Scene, data: bytes, why: str
) -> None:
    await scene.announce("/web", "a")
    world = scene.world({"web": service()})
    async with scene.following(world):
        scene.registry.set_data("/web", b'{"haproxy": {"port": 8080, "listen": ["mode tcp"]}}')
        await eventually(lambda: port(scene) == 8080, "the registry's port")
        scene.registry.set_data("/web", data)
        await eventually(lambda: any(why in one for one in world.trouble), "told")
        await scene.announce("/web", "b")
        await eventually(lambda: scene.names() == {"a", "b"}, "the next change")
        assert port(scene) == 8080
        assert world.config("web") == '{"haproxy": {"port": 8080, "listen": ["mode tcp"]}}'
        assert scene.events.count(ConfigurationUnusable("web")) == 1
        scene.registry.set_data("/web", b"")
        await eventually(lambda: world.trouble == (), "nothing is wrong any more")
        assert port(scene) == 8080


def port(scene: Scene) -> int | str | None:
    picture = scene.pictures.peek()
    return None if picture is None else picture.services["web"].haproxy.port


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"haproxy": {"port": 81, "listen": ["mode tcp"]}}', "service db listens on"),
        (b'{"haproxy": {"port": 8080, "listen": ["mode http", "reqadd X"]}}', "reqadd"),
        (b'{"haproxy": {"port": 8080, "listen": [], "server_options": "x %{ip}"}}', "server_options: unknown variable"),
        (b'{"haproxy": {"port": null, "listen": []}}', "port: is null"),
        (b"{", "is no JSON"),
    ],
)
async def test_a_configuration_that_cannot_be_served_is_told_and_left(scene: Scene, text: bytes, why: str) -> None:
    await scene.announce("/web", "a")
    world = scene.world({"web": service(), "db": service("/db", 81)})
    async with scene.following(world):
        await eventually(lambda: scene.names() == {"a"}, "the picture")
        scene.registry.set_data("/web", text)
        await eventually(lambda: any(why in one for one in world.trouble), "told")
        await scene.announce("/web", "b")
        await eventually(lambda: scene.names() == {"a", "b"}, "the instances go on")
        assert port(scene) == 80
        scene.registry.set_data("/web", b'{"haproxy": {"port": 8081, "listen": ["mode tcp"]}}')
        await eventually(lambda: port(scene) == 8081, "a good one is taken")
        assert world.trouble == ()


async def test_an_address_that_was_given_up_can_be_taken(scene: Scene) -> None:
    world = scene.world({"web": service(), "db": service("/db", 81)})
    async with scene.following(world):
        scene.registry.set_data("/db", b'{"haproxy": {"port": 82, "listen": ["mode tcp"]}}')
        await eventually(lambda: world.config("db") != "", "db moves")
        scene.registry.set_data("/web", b'{"haproxy": {"port": 81, "listen": ["mode tcp"]}}')
        await eventually(lambda: port(scene) == 81, "web takes its address")


async def test_a_watcher_that_cannot_be_made_is_the_users_fault(scene: Scene) -> None:
    bad = service()
    bad["discovery"]["auth"] = "no-colon"
    with pytest.raises(ConfigurationError, match="USER:PASSWORD"):
        scene.world({"web": bad})


# --- several watchers of one service -------------------------------------------------------------------------------


def multi(resolver: dict[str, Any], **more: Any) -> dict[str, Any]:
    other = {"method": "zookeeper", "hosts": ["h:1"], "path": "/other", **more.pop("other", {})}
    return service(discovery_multi={"watchers": {"other": other}, "resolver": resolver}, **more)


UNION = {"method": "union"}
SEQUENTIAL = {"method": "sequential", "sequential_order": ["primary", "other"]}


async def test_a_union_of_watchers(scene: Scene) -> None:
    await scene.announce("/web", "a")
    async with scene.following(scene.world({"web": multi(UNION)})):
        await eventually(lambda: scene.names() == {"a"}, "the picture")
        await scene.announce("/other", "b")
        await eventually(lambda: scene.names() == {"a", "b"}, "both")


async def test_what_is_done_with_instances_is_done_within_each_watcher(scene: Scene) -> None:
    await scene.announce("/web", "a")
    await scene.announce("/other", "b", labels='{"az":"1"}')
    await scene.announce("/other", "c", labels='{"az":"2"}')
    filters = {"label_filters": [{"label": "az", "value": "1"}]}
    spare = [{"host": "10.0.0.9", "port": 9, "name": "spare"}]
    own = multi(UNION, other=filters, default_servers=spare, backend_port_override=81)
    async with scene.following(scene.world({"web": own})):
        await eventually(lambda: scene.names() == {"a", "b"}, "the filter of one is none of the other")
        picture = scene.pictures.peek()
        assert picture is not None
        assert {one.port for one in picture.catalog.entries["web"].instances} == {81}
        scene.registry.delete("/web", next(iter(scene.registry.nodes("/web"))))
        await eventually(lambda: scene.names() == {"spare", "b"}, "the default of the one that is empty")


async def test_the_first_of_a_sequence_that_has_instances(scene: Scene) -> None:
    await scene.announce("/other", "b")
    world = scene.world({"web": multi(SEQUENTIAL, use_previous_backends=False)})
    async with scene.following(world):
        await eventually(lambda: scene.names() == {"b"}, "the second")
        assert world.choices == ("service web: served from the watcher other",)
        await scene.announce("/web", "a")
        await eventually(lambda: scene.names() == {"a"}, "the first")
        assert world.choices == ("service web: served from the watcher primary",)
        assert "service web: served from the watcher primary (1 instances)" in scene.said
        scene.registry.delete("/web", next(iter(scene.registry.nodes("/web"))))
        await eventually(lambda: scene.names() == {"b"}, "the second again")


async def test_the_configuration_of_a_sequence_does_not_change_with_who_serves(scene: Scene) -> None:
    await scene.announce("/other", "b")
    scene.registry.set_data("/other", b'{"haproxy": {"port": 8081, "listen": ["mode tcp"]}}')
    async with scene.following(scene.world({"web": multi(SEQUENTIAL)})):
        await eventually(lambda: scene.names() == {"b"}, "the second serves")
        assert port(scene) == 80
        scene.registry.set_data("/web", b'{"haproxy": {"port": 8080, "listen": ["mode tcp"]}}')
        await eventually(lambda: port(scene) == 8080, "the first's")
        assert scene.names() == {"b"}
        await scene.announce("/web", "a")
        await eventually(lambda: scene.names() == {"a"}, "the first serves")
        assert port(scene) == 8080


async def test_a_watcher_that_does_not_answer_is_named_and_keeps_what_was_saved(scene: Scene) -> None:
    away = memory.World()
    away.break_()

    def open_one(locator: Locator, emit: Emit) -> AbstractAsyncContextManager[Registry]:
        return (away if locator.hosts[0].host == "away" else scene.registry).open(emit)

    await scene.announce("/web", "a")
    async with Pool(scene.tell, open_one) as pool:
        scene.pool = pool
        world = scene.world({"web": multi(UNION, other={"hosts": ["away:1"]})})
        saved = Entry((Instance("10.0.0.1", 80, "saved"),))
        world.restore({"web": Saved("", saved, {}, "", {"other": (saved, "")})})
        async with scene.following(world, grace=0.2):
            await eventually(lambda: scene.names() == {"a", "saved"}, "what answers, and what was saved of the other")
            assert "service web: its watcher other has not answered yet" in world.trouble
            assert set(world.parts("web")) == {"primary", "other"}


async def test_a_service_of_which_nothing_is_known_is_not_in_the_picture(scene: Scene) -> None:
    scene.registry.break_()
    world = scene.world({"web": service(), "db": service("/db", 81)})
    world.stand_in({"db": Entry((Instance("10.0.0.1", 80, "stand-in"),)), "gone": Entry(())})
    async with scene.following(world, grace=0.05):
        await eventually(lambda: scene.pictures.peek() is not None, "the picture")
        picture = scene.pictures.peek()
        assert picture is not None
        assert set(picture.catalog.entries) == {"db"}
        assert scene.names("db") == {"stand-in"}
        scene.registry.heal()
        await eventually(lambda: scene.names("db") == set(), "an answer that there is none counts")


# -- other settings


async def test_a_service_with_the_same_settings_is_not_touched_by_others(scene: Scene) -> None:
    await scene.announce("/web", "a")
    await scene.announce("/db", "b")
    world = scene.world({"web": service()})
    async with scene.following(world):
        await eventually(lambda: scene.names() == {"a"}, "the picture")
        before = scene.pictures.peek()
        await scene.change(world, {"db": service("/db", 81), "web": service()})
        after = scene.pictures.peek()
        assert before is not None
        assert after is not None
        assert after.catalog.entries["web"] is before.catalog.entries["web"]
        assert after.services["web"] is before.services["web"]
        assert list(after.services) == ["db", "web"]
        assert scene.names("db") == {"b"}  # its watcher had answered before
        await scene.announce("/web", "c")
        await eventually(lambda: scene.names() == {"a", "c"}, "web goes on")


async def test_a_service_that_looks_elsewhere_has_answered_before_the_old_one_ends(scene: Scene) -> None:
    await scene.announce("/web", "a")
    await scene.announce("/new", "n")
    world = scene.world({"web": service(), "gone": service("/gone", 82)})
    async with scene.following(world):
        await eventually(lambda: scene.names() == {"a"}, "the picture")
        seen = [scene.pictures.peek()]
        change = await world.prepared(*scene.settings({"web": service("/new")}), 5.0)
        await scene.announce("/web", "b")
        await eventually(lambda: scene.names() == {"a", "b"}, "the old one goes on while the new one begins")
        world.take(change)
        assert scene.names() == {"n"}
        assert "gone" not in (scene.pictures.peek() or seen[0]).services  # type: ignore[union-attr]
        await scene.announce("/web", "c")
        await scene.announce("/new", "m")
        await eventually(lambda: scene.names() == {"n", "m"}, "the new one goes on alone")


async def test_other_settings_of_a_service_keep_what_is_known_while_its_registry_is_away(scene: Scene) -> None:
    await scene.announce("/web", "a")
    config = b'{"haproxy": {"port": 8080, "listen": ["mode tcp"]}}'
    scene.registry.set_data("/web", config)
    spare = [{"host": "10.0.0.9", "port": 9, "name": "spare"}]
    world = scene.world({"web": service(default_servers=spare)})
    async with scene.following(world):
        await eventually(lambda: scene.names() == {"a"}, "the picture")
        scene.registry.break_()
        scene.registry.expire()
        await scene.change(world, {"web": service(port=90, default_servers=spare)}, grace=0.05)
        assert scene.names() == {"a"}
        assert port(scene) == 8080  # as the registry wanted it
        assert any("no answer yet about web" in text for text in scene.said)
        await scene.change(world, {"web": service("/other", default_servers=spare)}, grace=0.05)
        assert scene.names() == {"spare"}  # another place: nothing is inherited


async def test_settings_that_cannot_be_taken_change_nothing(scene: Scene) -> None:
    await scene.announce("/web", "a")
    world = scene.world({"web": service()})
    async with scene.following(world):
        await eventually(lambda: scene.names() == {"a"}, "the picture")
        before = scene.pictures.peek()
        bad = service("/bad", 81)
        bad["discovery"]["auth"] = "no-colon"
        with pytest.raises(ConfigurationError, match="USER:PASSWORD"):
            await world.prepared(*scene.settings({"new": service("/new", 82), "bad": bad}), 5.0)
        assert scene.pictures.peek() is before
        await scene.announce("/web", "b")
        await eventually(lambda: scene.names() == {"a", "b"}, "web goes on")


ACME = """
class Watcher:
    def __init__(self, keys):
        self.keys = keys

    async def follow(self):
        if self.keys["when"] == "later":
            from dockstack.model import Instance
            from dockstack.registry import Snapshot
            yield Snapshot((Instance("10.0.0.9", 80, "theirs"),))
        raise KeyError("acme")

def build(settings, sessions, emit):
    return Watcher(settings.model_extra)
"""


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_a_plug_in_that_raises_stops_nobody_else(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    install(tmp_path, monkeypatch, "acme_world", ACME, {"watchers": {"acme": "acme_world"}})
    await scene.announce("/web", "a")
    world = scene.world({"web": service("/web"), "theirs": {"discovery": {"method": "acme", "when": when}}})
    async with scene.following(world, 0.2):
        await eventually(lambda: scene.pictures.peek() is not None and scene.names() == {"a"}, "the other service")
        await eventually(lambda: sum("acme" in one for one in scene.said) > 2, "it is told, and begun again")
        await scene.announce("/web", "b")
        await eventually(lambda: scene.names() == {"a", "b"}, "a change of the other service")
        if when == "later":
            assert scene.names("theirs") == {"theirs"}
        else:
            assert any("theirs" in one and "not answered" in one for one in world.trouble)


async def test_a_registry_that_no_service_names_any_more_is_let_go(scene: Scene) -> None:
    def at(*hosts: str) -> dict[str, Any]:
        services = {f"s{number}": service(port=80 + number) for number in range(len(hosts))}
        for one, host in zip(services.values(), hosts, strict=True):
            one["discovery"]["hosts"] = [host]
        return services

    world = scene.world(at("h:1", "h:1", "h:2"))
    async with scene.following(world):
        await eventually(lambda: scene.pictures.peek() is not None, "the picture")
        await scene.change(world, at("h:3", "h:1", "h:3"))
        assert scene.pool.states().keys() == {"zookeeper://h:1", "zookeeper://h:3"}
        await scene.change(world, at("h:3"))
        assert scene.pool.states().keys() == {"zookeeper://h:3"}
        await scene.announce("/web", "a")
        await eventually(lambda: scene.names("s0") == {"a"}, "it is followed")
