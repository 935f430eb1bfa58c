"""Services of containers: where they are, by tables; and as containers come and go, against an engine that says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockstack.docker.containers import Container, Network, Picture, Published, picture
from dockstack.errors import ConfigurationError
from dockstack.events import Event, Warn
from dockstack.model import Address
from dockstack.nerve.events import Down, Withdrawn
from dockstack.nerve.names import Names
from dockstack.nerve.placing import Placer, needs_engine, placed
from dockstack.nerve.post import Post
from dockstack.nerve.service import Service, plan
from dockstack.registry.pool import Pool
from dockstack.runtime.latest import Latest
from dockstack.runtime.scope import servants
from dockstack.settings.nerve import NerveSettings
from tests.nerve.test_roster import Backend, Nerve, nerve
from tests.servers.docker import FakeEngine
from tests.waiting import eventually

ID = "ab" * 32


def settings(**services: dict[str, Any]) -> NerveSettings:
    common = {"zk_hosts": ["zk"], "check_interval": 0.02, "host": "10.0.0.1"}
    whole = {name: {"zk_path": f"/nerve/{name}", **common, **keys} for name, keys in services.items()}
    return NerveSettings.model_validate({"instance_id": "i-1", "services": whole})


DB = {"container": "db", "container_port": 3306}


def box(port: int = 49153, **more: Any) -> Container:
    published = (Published(3306, "tcp", "0.0.0.0", port),)
    there = (Network("bridge", "172.17.0.2", ""),)
    return Container(ID, "db", "mariadb", "running", "t1", published=published, networks=there, **more)


def place(now: Container | None, own: str | None = None, before: Service | None = None, **keys: Any) -> Service:
    seen = picture([] if now is None else [now])
    services = plan(settings(db={**DB, **keys}), lambda: seen)
    (found,) = placed(services, lambda: seen, own, {} if before is None else {"db": before})
    return found


def test_a_service_has_the_published_port_of_its_container() -> None:
    found = place(box(), checks=[{"type": "tcp"}, {"type": "http", "uri": "/", "port": 80}])
    assert (found.address, found.absence) == (Address("10.0.0.1", 49153), None)
    assert [probe.target for probe in found.probes] == [Address("10.0.0.1", 49153), Address("10.0.0.1", 80)]
    assert found.probes[0].name == "db tcp-10.0.0.1:49153"


@pytest.mark.parametrize(
    ("now", "reason", "fault"),
    [
        (None, "does not exist; it is waited for", False),
        (box(stopping=True), "is being stopped", False),
        (replace(box(), state="paused"), "is not running (paused)", False),
        (replace(box(), state="exited", published=()), "is not running (exited)", False),
        (replace(box(), published=()), "does not publish port 3306; published: none; start it with -p 3306", True),
    ],
)
def test_why_a_service_has_no_address(now: Container | None, reason: str, fault: bool) -> None:
    absence = place(now).absence
    assert absence is not None
    assert (absence.what, absence.reason, absence.known, absence.fault) == ("container db", reason, True, fault)


def test_nothing_is_known_before_the_engine_has_answered() -> None:
    (service,) = plan(settings(db=DB))
    assert placed((service,), lambda: None, None, {}) == [service]
    assert service.absence is not None
    assert not service.absence.known


def test_its_own_address_on_a_network_that_nerve_is_on() -> None:
    mine = Container("cd" * 32, "nerve", "image", "running", networks=(Network("back", "10.2.0.9", ""),))
    db = replace(box(), networks=(Network("back", "10.2.0.2", ""), Network("a", "10.1.0.2", "")), published=())
    seen = picture([mine, db])
    (service,) = plan(settings(db={**DB, "advertise": "docker", "host": None}), lambda: seen)
    assert placed((service,), lambda: seen, None, {})[0].address == Address("10.1.0.2", 3306)
    assert placed((service,), lambda: seen, mine.id, {})[0].address == Address("10.2.0.2", 3306)


def test_what_has_not_changed_stays_the_same_object_and_another_start_does_not() -> None:
    before = place(box(), checks=[{"type": "tcp"}])
    assert place(box(), before=before, checks=[{"type": "tcp"}]) is before
    for other in (box(49154), replace(box(), started="t2"), replace(box(), id="cd" * 32)):
        assert place(other, before=before, checks=[{"type": "tcp"}]) != before
    gone = place(None)
    assert place(None, before=gone) is gone


def test_checks_that_can_no_longer_be_made_are_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    seen = picture([box()])
    check = {"type": "http", "uri": "/", "ssl": True, "verify": True, "ca_file": str(file)}
    with pytest.raises(ConfigurationError):
        plan(settings(db={**DB, "checks": [check]}))
    (service,) = plan(settings(db={**DB, "checks": []}), lambda: seen)
    broken = settings(db={**DB, "checks": [check]}).services["db"]
    (found,) = placed((replace(service, settings=broken),), lambda: seen, None, {})
    assert found.absence is not None
    assert "cannot be made: services.db.checks[0]: " in found.absence.reason


@pytest.mark.parametrize(
    ("service", "needed"),
    [
        ({"port": 80}, False),
        ({"port": 80, "checks": [{"type": "docker", "container": "db"}]}, True),
        (DB, True),
    ],
)
def test_when_the_engine_is_needed(service: dict[str, Any], needed: bool) -> None:
    assert needs_engine(settings(web={"port": 1}, db=service)) == needed


async def test_a_service_that_is_not_checked_is_not_late() -> None:
    async with asyncio.TaskGroup() as group, Pool(lambda _: None) as nobody_asks:
        post = Post(group, nobody_asks, lambda _: None, Names(), place(None, checks=[{"type": "tcp"}]), elsewhere=None)
        assert post.overdue(asyncio.get_running_loop().time() + 1000) is None
        post.service = place(box(), checks=[{"type": "tcp"}])
        assert post.overdue(asyncio.get_running_loop().time() + 1000) is not None


# as containers come and go


class Placed:
    def __init__(self, running: Nerve, placer: Placer, pictures: Latest[Picture], told: list[Event]) -> None:
        self.running = running
        self.told = told
        self.placer = placer
        self._pictures = pictures

    def change(self, **services: dict[str, Any]) -> None:
        wanted = settings(**services)
        self.placer.change(wanted, plan(wanted, self._pictures.peek))

    def ports(self, path: str = "/nerve/db") -> list[int]:
        return [node["port"] for node in self.running.nodes(path)]

    async def at(self, *ports: int) -> None:
        await eventually(lambda: self.ports() == list(ports), f"ports {ports}", limit=3)

    def said(self, *kinds: type[Event]) -> list[str]:
        return self.running.said(*kinds)


@asynccontextmanager
async def followed(engine: FakeEngine, **services: dict[str, Any]) -> AsyncIterator[Placed]:
    pictures: Latest[Picture] = Latest()
    told: list[Event] = []
    async with nerve() as running, servants() as tasks:
        placer = Placer(running.roster, pictures, None, told.append)
        placement = Placed(running, placer, pictures, told)
        placement.change(**services)
        tasks.create_task(placer.follow(engine.unix))
        yield placement


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    async with FakeEngine(tmp_path) as running:
        yield running


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """What is checked in place of the port that the engine gives, where nobody listens."""
    server = Backend()
    await server.open()
    yield server
    await server.close()


def checked(backend: Backend) -> dict[str, Any]:
    return {**DB, "checks": [{"type": "tcp", "host": "127.0.0.1", "port": backend.port, "timeout": 1}]}


async def test_a_container_is_waited_for_and_followed_through_every_change_of_its_port(
    engine: FakeEngine, backend: Backend
) -> None:
    async with followed(engine, db=checked(backend)) as now:
        await eventually(lambda: bool(now.said(Down)), "a word about it", limit=3)
        assert now.said(Down) == ["db is down: container db: does not exist; it is waited for"]
        engine.create("db", [3306])
        engine.start("db")
        await now.at(49153)
        engine.restart("db")
        await now.at(49155)
        engine.reconnect("db")
        await now.at(49157)
        engine.remove("db")
        await now.at()
        engine.run("db", [3306])
        await now.at(49159)
        engine.rename("db", "other")
        await now.at()
        engine.rename("other", "db")
        await now.at(49159)
        assert len([text for text in now.said(Down) if "waited for" in text]) == 2


@pytest.mark.parametrize("action", ["die", "pause", "kill"])
async def test_an_event_withdraws_without_a_check_and_without_a_question(
    engine: FakeEngine, backend: Backend, action: str
) -> None:
    engine.run("db", [3306])
    async with followed(engine, db={**checked(backend), "check_interval": 60}) as now:
        await now.at(49153)
        engine.slow = 30.0
        engine.signal("db", 15) if action == "kill" else getattr(engine, action)("db")
        await now.at()


async def test_a_signal_that_is_no_stop_withdraws_nothing(engine: FakeEngine, backend: Backend) -> None:
    engine.run("db", [3306])
    async with followed(engine, db=checked(backend), web={"container": "web", "container_port": 80}) as now:
        await now.at(49153)
        engine.signal("db", 1)
        engine.run("web", [80])
        await eventually(lambda: now.ports("/nerve/web") == [49155], "what came after the signal", limit=3)
        assert now.said(Withdrawn) == []


async def test_who_outlives_its_stop_timeout_is_announced_again(engine: FakeEngine, backend: Backend) -> None:
    engine.run("db", [3306], stop_timeout=0)
    async with followed(engine, db=checked(backend)) as now:
        await now.at(49153)
        engine.signal("db", 15)
        await now.at()
        await now.at(49153)


@pytest.mark.parametrize("ways", [("pause", "unpause"), ("stop", "start")])
async def test_what_goes_on_is_announced_after_a_passed_check(
    engine: FakeEngine, backend: Backend, ways: tuple[str, str]
) -> None:
    engine.run("db", {3306: 33060})
    async with followed(engine, db=checked(backend)) as now:
        await now.at(33060)
        getattr(engine, ways[0])("db")
        await now.at()
        await backend.close()
        getattr(engine, ways[1])("db")
        await eventually(lambda: any("refused" in text for text in health(now)), "a failed check", limit=3)
        assert now.ports() == []
        await backend.open()
        await now.at(33060)


def health(now: Placed) -> tuple[str, ...]:
    return now.running.roster.health().lines


async def test_a_restart_that_nobody_told_of_moves_the_registration_without_a_gap(
    engine: FakeEngine, backend: Backend
) -> None:
    engine.run("db", [3306])
    async with followed(engine, db=checked(backend)) as now:
        await now.at(49153)
        engine.mute = True
        engine.restart("db")
        await now.at(49155)
        assert now.said(Withdrawn) == []


async def test_an_unpublished_port_is_named_with_what_is_published(engine: FakeEngine, backend: Backend) -> None:
    engine.run("db", [80], host_ips=["0.0.0.0"])
    async with followed(engine, db={**checked(backend), "rate_limiting": {"average_rate": 1000}}) as now:
        wrong = "container db: does not publish port 3306; published: 80/tcp at 0.0.0.0:{}; start it with -p 3306"
        await eventually(lambda: now.said(Down) == [f"db is down: {wrong.format(49153)}"], "a word", limit=3)
        assert now.running.roster.ready().ok
        engine.restart("db")
        await eventually(lambda: now.said(Warn) == [f"db stays down: {wrong.format(49154)}"], "another word", limit=3)
        engine.remove("db")
        engine.run("db", [3306], host_ips=["::"])
        await now.at(49155)


async def test_dockers_healthcheck_decides(engine: FakeEngine) -> None:
    engine.run("db", [3306], health="starting")
    async with followed(engine, db={**DB, "checks": [{"type": "docker"}]}) as now:
        await eventually(lambda: any("says starting" in text for text in health(now)), "a verdict", limit=3)
        engine.heal("db", "healthy")
        await now.at(49153)
        engine.heal("db", "unhealthy")
        await now.at()


@pytest.mark.parametrize("containers", [False, True])
async def test_an_engine_that_restarts(engine: FakeEngine, backend: Backend, containers: bool) -> None:
    engine.run("db", [3306])
    async with followed(engine, db=checked(backend)) as now:
        await now.at(49153)
        await engine.stop_server(containers=containers)
        await eventually(lambda: any("trying again" in str(event) for event in now.told), "the failure", limit=3)
        assert now.ports() == [49153], "what cannot be asked is not gone; the checks decide"
        await engine.start_server()
        if containers:
            await now.at()
            engine.start("db")
            await now.at(49155)
        else:
            engine.restart("db")
            await now.at(49155)


async def test_until_the_engine_has_answered_nothing_is_ready(tmp_path: Path, backend: Backend) -> None:
    engine = FakeEngine(tmp_path)
    engine.run("db", [3306])
    async with followed(engine, db=checked(backend)) as now:
        await eventually(lambda: bool(now.told), "the failure", limit=3)
        assert now.running.roster.ready().lines == ("db: the Docker engine has not answered yet",)
        assert health(now) == ("db: not known yet, the Docker engine has not answered yet",)
        assert "No such file or directory" in now.placer.states()[engine.unix]
        async with engine:
            await eventually(lambda: now.running.roster.ready().ok, "ready", limit=5)
            assert now.placer.states() == {engine.unix: "followed"}
            assert now.ports() == [49153]


async def test_one_connection_is_for_all_services_and_begins_with_the_first_that_needs_it(engine: FakeEngine) -> None:
    async with followed(engine, web={"port": 80}) as now:
        await now.running.registered()
        assert engine.requests == []
        assert now.placer.states() == {}
        for number in range(20):
            engine.run(f"db{number}", [3306])
        many = {f"db{number}": {**DB, "container": f"db{number}"} for number in range(20)}
        now.change(web={"port": 80}, **many)
        await eventually(lambda: all(now.ports(f"/nerve/{name}") for name in many), "all services", limit=5)
        now.change(web={"port": 81}, **many)
        await eventually(lambda: now.ports("/nerve/web") == [81], "the change", limit=3)
        assert engine.opened == 1
        assert engine.watchers == 1


async def test_a_reload_leaves_a_service_of_a_container_alone(engine: FakeEngine, backend: Backend) -> None:
    engine.run("db", [3306])
    async with followed(engine, db=checked(backend)) as now:
        await now.at(49153)
        before = now.running.world().nodes("/nerve/db")
        now.change(db=checked(backend), web={"port": 80})
        await now.running.registered(path="/nerve/web")
        assert now.running.world().nodes("/nerve/db") == before
        now.change(web={"port": 80})
        await now.at()
