"""Following an engine, against a server that answers as one: restarts, lost events, what may not be asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dockstack.docker.containers import Container, Picture
from dockstack.docker.engine import follow, host_fault
from dockstack.events import Event
from dockstack.runtime.latest import Latest
from dockstack.runtime.scope import servants
from tests.servers.docker import FakeEngine
from tests.waiting import eventually


class Follower:
    def __init__(self) -> None:
        self.pictures: Latest[Picture] = Latest()
        self.seen: list[Picture] = []
        self.told: list[Event] = []

    @property
    def names(self) -> list[str]:
        return sorted(c.name for c in self.now.containers.values())

    @property
    def now(self) -> Picture:
        return self.pictures.peek() or Picture()

    def container(self, name: str) -> Container:
        found = self.now.find(name)
        assert found is not None, self.names
        return found

    def port(self, name: str) -> int | None:
        found = self.now.find(name)
        return found.published[0].host_port if found and found.published else None

    async def until(self, name: str, state: str) -> Container:
        def reached() -> bool:
            found = self.now.find(name)
            return found is not None and (found.plight or "running") == state

        await eventually(reached, f"{name}: {state}", limit=3)
        return self.container(name)

    async def watch(self) -> None:
        async for picture in self.pictures:
            self.seen.append(picture)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    async with FakeEngine(tmp_path) as running:
        yield running


@asynccontextmanager
async def following(host: str, relist: float = 60.0, poll: float = 5.0) -> AsyncIterator[Follower]:
    follower = Follower()
    async with servants() as tasks:
        tasks.create_task(follower.watch())
        tasks.create_task(follow(host, follower.pictures, follower.told.append, relist=relist, poll=poll))
        yield follower


@asynccontextmanager
async def followed(engine: FakeEngine, relist: float = 60.0) -> AsyncIterator[Follower]:
    """From the first picture on."""
    async with following(engine.unix, relist) as follower:
        await eventually(lambda: follower.pictures.peek() is not None, "the first picture", limit=3)
        yield follower


async def test_the_first_picture_is_complete(engine: FakeEngine) -> None:
    for number in range(30):
        engine.run(f"web{number}", [80], labels={"n": str(number)})
    engine.create("idle", [80])
    async with followed(engine) as follower:
        assert len(follower.seen[0].containers if follower.seen else follower.now.containers) == 31
        assert follower.container("web7").labels == {"n": "7"}
        assert follower.container("idle").plight == "is not running (created)"


@pytest.mark.parametrize("way", ["unix", "tcp"])
async def test_an_engine_is_asked_by_get_alone(engine: FakeEngine, way: str) -> None:
    engine.run("web", [80])
    async with following(getattr(engine, way)) as follower:
        await follower.until("web", "running")
        engine.restart("web")
        await eventually(lambda: follower.port("web") == 49155, "the new port", limit=3)
    assert {method for method, _ in engine.requests} == {"GET"}
    container = engine.boxes["web"].id
    assert {path for _, path in engine.requests} == {
        "/version",
        "/events",
        "/containers/json",
        f"/containers/{container}/json",
    }


async def test_the_published_port_follows_restart_reconnection_and_recreation(engine: FakeEngine) -> None:
    async with followed(engine) as follower:
        assert follower.names == []
        engine.run("db", [3306])
        await eventually(lambda: follower.port("db") == 49153, "the first port", limit=3)
        engine.restart("db")
        await eventually(lambda: follower.port("db") == 49155, "the port after a restart", limit=3)
        engine.reconnect("db")
        await eventually(lambda: follower.port("db") == 49157, "the port after a reconnection", limit=3)
        engine.remove("db")
        engine.run("db", [3306])
        await eventually(lambda: follower.port("db") == 49159, "the port after a re-creation", limit=3)
        engine.rename("db", "store")
        await eventually(lambda: follower.names == ["store"], "the new name", limit=3)


@pytest.mark.parametrize("number", [2, 3, 9, 12, 15])
async def test_a_signal_that_ends_a_container_counts_at_once(engine: FakeEngine, number: int) -> None:
    engine.run("web", [80], stop_signal="SIGUSR2")
    async with followed(engine) as follower:
        engine.slow = 30.0  # nothing can be asked: the event alone must do
        engine.signal("web", number)
        await follower.until("web", "is being stopped")


async def test_a_signal_that_is_no_stop_counts_for_nothing(engine: FakeEngine) -> None:
    engine.run("web", [80])
    async with followed(engine) as follower:
        engine.signal("web", 1)
        engine.run("later")
        await follower.until("later", "running")
        assert not any(c.stopping for seen in follower.seen for c in seen.containers.values())


async def test_a_container_that_outlives_its_stop_timeout_is_believed_to_go_on(engine: FakeEngine) -> None:
    engine.run("web", [80], stop_timeout=0)
    async with followed(engine) as follower:
        engine.signal("web", 15)
        await follower.until("web", "is being stopped")
        await follower.until("web", "running")


async def test_asking_again_does_not_end_the_belief_in_a_stop(engine: FakeEngine) -> None:
    engine.run("web", [80])
    async with followed(engine) as follower:
        engine.signal("web", 15)
        engine.heal("web", "healthy")
        await eventually(lambda: follower.container("web").health == "healthy", "its health", limit=3)
        assert follower.container("web").stopping


@pytest.mark.parametrize("action", ["pause", "die"])
async def test_a_container_that_pauses_or_dies_counts_at_once(engine: FakeEngine, action: str) -> None:
    engine.run("web", [80])
    async with followed(engine) as follower:
        engine.slow = 30.0
        getattr(engine, action)("web")
        await follower.until("web", f"is not running ({'paused' if action == 'pause' else 'exited'})")


async def test_an_answer_from_before_an_event_does_not_undo_it(engine: FakeEngine) -> None:
    engine.run("web", [80], health="starting")
    async with followed(engine) as follower:
        engine.late = 0.1
        asked = len(engine.requests)
        engine.heal("web", "healthy")
        await eventually(lambda: len(engine.requests) > asked, "the question", limit=3)
        engine.pause("web")
        await follower.until("web", "is not running (paused)")
        await eventually(lambda: follower.container("web").health == "healthy", "the next answer", limit=3)
        plights = [seen.containers[engine.boxes["web"].id].plight for seen in follower.seen]
        assert plights == sorted(plights, key=lambda plight: plight is not None)


async def test_a_paused_container_goes_on(engine: FakeEngine) -> None:
    engine.run("web", [80])
    async with followed(engine) as follower:
        engine.pause("web")
        await follower.until("web", "is not running (paused)")
        engine.unpause("web")
        await follower.until("web", "running")


async def test_health_is_followed(engine: FakeEngine) -> None:
    engine.run("web", [80], health="starting")
    async with followed(engine) as follower:
        assert follower.container("web").health == "starting"
        engine.heal("web", "unhealthy")
        await eventually(lambda: follower.container("web").health == "unhealthy", "its health", limit=3)


async def test_lost_events_are_put_right_by_a_list(engine: FakeEngine) -> None:
    for name in ("stays", "goes", "restarts", "sickens"):
        engine.run(name, [80], health="healthy")
    async with followed(engine, relist=0.1) as follower:
        engine.mute = True
        engine.remove("goes")
        engine.restart("restarts")
        engine.heal("sickens", "unhealthy")
        engine.run("comes", [80])
        port = int((engine.boxes["restarts"].published["80/tcp"] or [])[0]["HostPort"])
        await eventually(
            lambda: (
                follower.names == ["comes", "restarts", "sickens", "stays"]
                and follower.port("restarts") == port
                and follower.container("sickens").health == "unhealthy"
            ),
            "what was not told",
            limit=3,
        )


async def test_lists_without_a_change_ask_and_tell_nothing(engine: FakeEngine) -> None:
    engine.run("web", [80])
    async with followed(engine, relist=0.02) as follower:
        engine.requests.clear()

        def lists() -> int:
            return sum(path == "/containers/json" for _, path in engine.requests)

        await eventually(lambda: lists() > 5, "lists", limit=3)
        engine.exec("web")
        await eventually(lambda: lists() > 8, "more lists", limit=3)
        assert {path for _, path in engine.requests} == {"/containers/json"}
        assert len(follower.seen) == 1


@pytest.mark.parametrize("containers", [False, True])
async def test_an_engine_that_restarts_is_followed_again(engine: FakeEngine, containers: bool) -> None:
    engine.run("web", [80])
    async with followed(engine) as follower:
        await engine.stop_server(containers=containers)
        await eventually(lambda: any("trying again" in str(e) for e in follower.told), "the failure", limit=3)
        assert follower.container("web").running, "what cannot be asked is not gone"
        await engine.start_server()
        engine.run("later")
        await follower.until("later", "running")
        await follower.until("web", "is not running (exited)" if containers else "running")


async def test_a_stream_that_ends_is_opened_again_at_once(engine: FakeEngine) -> None:
    async with followed(engine) as follower:
        for number in range(5):
            await eventually(lambda number=number: engine.opened == number + 1, "the stream", limit=3)  # type: ignore[misc]
            engine.cut()
            engine.run(f"web{number}")
            await follower.until(f"web{number}", "running")


async def test_an_engine_that_is_not_there_yet_is_waited_for_and_named_once(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path)
    async with following(engine.unix) as follower:
        await eventually(lambda: bool(follower.told), "the failure", limit=3)
        assert follower.pictures.peek() is None
        await asyncio.sleep(0.5)  # several tries
        assert len(follower.told) == 1
        assert str(engine.path) in str(follower.told[0])
        async with engine:
            await eventually(lambda: follower.pictures.peek() is not None, "the first picture", limit=5)


async def test_without_events_the_engine_is_asked_at_intervals(engine: FakeEngine) -> None:
    engine.events = False
    engine.run("web", [80])
    async with following(engine.tcp, poll=0.05) as follower:
        await follower.until("web", "running")
        engine.stop("web")
        await follower.until("web", "is not running (exited)")
    assert "does not let its events be read" in str(follower.told[0])


async def test_a_container_that_the_engine_cannot_describe_is_skipped_by_name(engine: FakeEngine) -> None:
    engine.broken.add(engine.run("bad").id)
    engine.run("web", [80])
    async with followed(engine) as follower:
        assert follower.names == ["web"]
        said = [str(event) for event in follower.told]
        assert any("skipped" in text and "layer does not exist" in text for text in said), said


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("unix:///nowhere.sock", "unix:///nowhere.sock: No such file or directory"),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1: Connection refused"),
    ],
)
async def test_an_engine_that_is_not_there_is_told_in_few_words(host: str, words: str) -> None:
    async with following(host) as follower:
        await eventually(lambda: bool(follower.told), "it is told", limit=3)
    assert f"failed: {words}; trying again" in str(follower.told[0])


async def test_something_else_than_an_engine_is_unavailable() -> None:
    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with following(f"tcp://127.0.0.1:{port}") as follower:
            await eventually(lambda: bool(follower.told), "the failure", limit=3)
        assert "this is not how a Docker engine answers" in str(follower.told[0])


async def test_nothing_is_left_behind(engine: FakeEngine) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        async with followed(engine) as follower:
            engine.run("web", [80])
            await follower.until("web", "running")
            engine.cut()
            engine.remove("web")
            await eventually(lambda follower=follower: not follower.names, "the end", limit=3)  # type: ignore[misc]
        await eventually(lambda: engine.watchers == 0, "no stream", limit=3)
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, "no socket", limit=3)


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        ("unix:///var/run/docker.sock", None),
        ("tcp://127.0.0.1:2375", None),
        ("unix://var/run/docker.sock", "no absolute path"),
        ("/var/run/docker.sock", "is not the address"),
        ("ssh://me@host", "is not the address"),
        ("tcp://", "is not the address"),
    ],
)
def test_the_address_of_an_engine(host: str, fault: str | None) -> None:
    assert (host_fault(host) is None) if fault is None else (fault in str(host_fault(host)))
