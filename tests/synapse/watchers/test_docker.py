"""Finding the containers of an image, on servers that speak as Docker engines do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dockstack.docker.containers import Container, Picture, Published, picture
from dockstack.errors import ConfigurationError
from dockstack.events import Event, Retrying
from dockstack.model import Instance
from dockstack.registry import Locator, Registry, Snapshot
from dockstack.settings.discovery import DockerDiscovery, DockerServer
from dockstack.synapse.watchers import docker
from dockstack.synapse.watchers.docker import DockerWatcher, Engine, engine_of, repository, together
from tests.servers.docker import FakeEngine
from tests.servers.ports import free_port
from tests.waiting import eventually

IMAGE = "registry:5000/team/web"
ANYWHERE = "0.0.0.0"


class NoSessions:
    async def get(self, locator: Locator) -> Registry:
        raise AssertionError("no registry is asked")


def watcher(emit: Callable[[Event], None], *servers: dict[str, Any], **more: Any) -> DockerWatcher:
    looks = {"method": "docker", "servers": servers, "image_name": IMAGE, "container_port": 80, **more}
    built = docker.build(DockerDiscovery.model_validate(looks), NoSessions(), emit)
    assert isinstance(built, DockerWatcher)
    return built


def at(port: int, name: str | None = None) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "name": name}


@asynccontextmanager
async def following(one: DockerWatcher) -> AsyncIterator[list[Snapshot]]:
    seen: list[Snapshot] = []

    async def follow() -> None:
        async for snapshot in one.follow():
            seen.append(snapshot)

    task = asyncio.create_task(follow())
    try:
        yield seen
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait((task,))


def ports(seen: list[Snapshot]) -> list[int | str] | None:
    return [one.port for one in seen[-1].instances] if seen else None


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("web", "web"),
        ("web:1.2", "web"),
        ("team/web:1", "team/web"),
        ("registry:5000/team/web", "registry:5000/team/web"),
        ("registry:5000/team/web:1@sha256:aa", "registry:5000/team/web"),
        ("web@sha256:aa", "web"),
    ],
)
def test_an_image_without_its_tag(image: str, name: str) -> None:
    assert repository(image) == name


def containers(*published: Published, image: str = f"{IMAGE}:1", state: str = "running") -> Picture:
    return picture([Container("1", "one", image, state, published=published)])


def port(number: int, host: str = ANYWHERE, inside: int = 80, protocol: str = "tcp") -> Published:
    return Published(inside, protocol, host, number)


@pytest.mark.parametrize(
    ("found", "host", "expected"),
    [
        (containers(port(1000)), "h", [("h", "1000")]),
        (containers(port(1001, "::"), port(1000)), "h", [("h", "1000")]),
        (containers(port(1001, "::"), port(1000)), "fd00::1", [("fd00::1", "1001")]),
        (containers(port(1001, "::"), port(1000)), None, [("127.0.0.1", "1000")]),
        (containers(port(1001, "::")), None, [("::1", "1001")]),
        (containers(port(1000, "127.0.0.1")), None, [("127.0.0.1", "1000")]),
        (containers(port(1000, "10.0.0.1")), None, [("10.0.0.1", "1000")]),
        (containers(port(1000, "10.0.0.1")), "h", [("h", "1000")]),
        (containers(port(1000, protocol="udp")), "h", []),
        (containers(port(1000, inside=81)), "h", []),
        (containers(port(1000), image="other:1"), "h", []),
        (containers(port(1000), state="exited"), "h", []),
        (containers(), "h", []),
        (containers(port(1000, "127.0.0.1"), port(1001, "10.0.0.1")), "h", [("h", "1001")]),
    ],
)
def test_where_a_container_is_reached(found: Picture, host: str | None, expected: list[tuple[str, str]]) -> None:
    snapshot = together([(Engine("tcp://h:1", host, "main"), found)], IMAGE, 80)
    assert snapshot == Snapshot(tuple(Instance(where, number, "main") for where, number in expected))


def test_what_is_published_on_another_hosts_loopback_is_named() -> None:
    snapshot = together([(Engine("tcp://h:1", "h"), containers(port(1000, "127.0.0.1")))], IMAGE, 80)
    assert snapshot.instances == ()
    assert snapshot.problems == (
        "Docker: tcp://h:1: the container one is left out: "
        "its port 80 is published on 127.0.0.1 alone, which only its own host reaches",
    )


@pytest.mark.parametrize(
    ("server", "environment", "engine"),
    [
        ({"host": "h"}, {}, Engine("tcp://h:4243", "h")),
        ({"host": "h", "port": "99", "name": 7}, {"DOCKER_HOST": "tcp://x:1"}, Engine("tcp://h:99", "h", "7")),
        ({"host": "fd00::1"}, {}, Engine("tcp://[fd00::1]:4243", "fd00::1")),
        ({}, {}, Engine("unix:///var/run/docker.sock", None)),
        ({"name": "n"}, {"DOCKER_HOST": "unix:///d.sock"}, Engine("unix:///d.sock", None, "n")),
        ({}, {"DOCKER_HOST": "tcp://[fd00::1]:2375"}, Engine("tcp://[fd00::1]:2375", "fd00::1")),
    ],
)
def test_where_an_engine_is(server: dict[str, Any], environment: dict[str, str], engine: Engine) -> None:
    assert engine_of(DockerServer.model_validate(server), environment) == engine


def test_what_is_no_engine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="DOCKER_HOST"):
        engine_of(DockerServer(), {"DOCKER_HOST": "h:1"})
    for server in ({"port": 1}, {"host": "a b"}, {"host": ""}):
        with pytest.raises(ValidationError):
            DockerServer.model_validate(server)


@pytest.fixture
def engines(tmp_path: Path) -> Callable[[str], FakeEngine]:
    """An engine that is not started yet: `engines("first")`."""

    def make(name: str) -> FakeEngine:
        (tmp_path / name).mkdir()
        return FakeEngine(tmp_path / name)

    return make


def web(engine: FakeEngine, name: str, port: int, tag: str = ":1") -> None:
    """Runs a container of the image, whose port 80 is published at that port."""
    engine.run(name, {80: port}, image=f"{IMAGE}{tag}", host_ips=["0.0.0.0"])


async def test_containers_come_and_go(engines: Callable[[str], FakeEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Event] = []
    engine = engines("d")
    monkeypatch.setenv("DOCKER_HOST", engine.unix)
    async with engine, following(watcher(said.append, {"name": "main"})) as seen:
        await eventually(lambda: seen == [Snapshot(())], "an empty set")
        engine.run("one", [80], image=f"{IMAGE}:1", host_ips=["0.0.0.0", "::"])
        engine.run("other", {80: 1009}, image="other:1")
        await eventually(lambda: ports(seen) == ["49153"], "the first")
        assert seen[-1].instances == (Instance("127.0.0.1", "49153", "main"),)
        web(engine, "two", 1000, "")
        await eventually(lambda: ports(seen) == ["1000", "49153"], "the second")
        engine.restart("one")
        await eventually(lambda: ports(seen) == ["1000", "49155"], "another port after a restart")
        engine.signal("two", 1)
        engine.signal("one", 15)
        await eventually(lambda: ports(seen) == ["1000"], "gone at the signal that ends it")
        engine.die("two")
        await eventually(lambda: ports(seen) == [], "gone when it has ended")


async def test_an_engine_that_is_lost_keeps_what_it_had(engines: Callable[[str], FakeEngine]) -> None:
    said: list[Event] = []
    async with engines("first") as one, engines("second") as two:
        web(one, "one", 1001)
        web(two, "two", 1000)
        async with following(watcher(said.append, at(one.port, "a"), at(two.port, "b"))) as seen:
            await eventually(lambda: ports(seen) == ["1001", "1000"], "both, in the order of the servers")
            assert [each.name for each in seen[0].instances] == ["a", "b"]
            await one.stop_server()
            await eventually(lambda: any(isinstance(event, Retrying) for event in said), "the loss is told")
            one.remove("one")
            web(two, "three", 1003)
            await eventually(lambda: ports(seen) == ["1001", "1000", "1003"], "the other goes on")
            await one.start_server()
            await eventually(lambda: ports(seen) == ["1000", "1003"], "what has changed meanwhile")


async def test_the_first_set_waits_for_every_engine(engines: Callable[[str], FakeEngine]) -> None:
    said: list[Event] = []
    late = engines("second")
    web(late, "two", 1000)
    async with engines("first") as one, following(watcher(said.append, at(one.port), at(late.port))) as seen:
        web(one, "one", 1001)
        await eventually(lambda: one.watchers == 1 and bool(said), "one engine is followed, the other is not there")
        async with late:
            await eventually(lambda: bool(seen), "the first set")
            assert [each.port for each in seen[0].instances] == ["1001", "1000"]


async def test_an_engine_that_never_answered_is_named_and_the_others_serve(
    engines: Callable[[str], FakeEngine],
) -> None:
    said: list[Event] = []
    one = engines("first")
    async with engines("second") as two:
        web(two, "two", 1000)
        built = replace(watcher(said.append, at(one.port), at(two.port)), patience=0.3)
        async with following(built) as seen:
            await eventually(lambda: ports(seen) == ["1000"], "one of them")
            (problem,) = seen[0].problems
            assert f"{one.tcp} has not answered yet" in problem
            web(one, "one", 1001)
            async with one:
                await eventually(lambda: ports(seen) == ["1001", "1000"], "both")
                assert seen[-1].problems == ()


async def test_without_any_engine_nothing_is_said_to_be_empty() -> None:
    said: list[Event] = []
    async with following(replace(watcher(said.append, at(free_port())), patience=0.1)) as seen:
        await eventually(lambda: len(said) > 0, "the failure")
        await asyncio.sleep(0.3)
        assert not seen


async def test_without_events_the_engine_is_asked_at_the_interval(engines: Callable[[str], FakeEngine]) -> None:
    said: list[Event] = []
    engine = engines("d")
    engine.events = False
    async with engine, following(watcher(said.append, at(engine.port), check_interval=0)) as seen:
        await eventually(lambda: ports(seen) == [], "the first look")
        web(engine, "one", 1001)
        await eventually(lambda: ports(seen) == ["1001"], "the next look")
        engine.remove("one")
        await eventually(lambda: ports(seen) == [], "gone")
        assert any("asked every 0.5 s" in str(event) for event in said)
