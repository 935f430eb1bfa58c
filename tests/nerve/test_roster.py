"""Services that come, go and change, against the memory registry and real listening sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from dockstack.admin.report import Report
from dockstack.events import DEBUG, Event
from dockstack.model import Address
from dockstack.nerve.checks import Check
from dockstack.nerve.events import Checked, Down, Lost, Registered, Throttled, Up, Withdrawn
from dockstack.nerve.roster import Roster
from dockstack.nerve.service import FIRST_WAIT, Service, plan
from dockstack.registry import Locator, Registry
from dockstack.registry.memory import World
from dockstack.settings.nerve import NerveSettings
from tests.waiting import eventually


class Nerve:
    """A roster, with a memory world for each ZooKeeper that its services name."""

    def __init__(self, group: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
        self.worlds: dict[str, World] = {}
        self.told: list[Event] = []
        self.reached: list[bool] = []
        self.absences = 0
        self.roster = Roster(group, self, self._tell)
        self._stack = stack
        self._sessions: dict[Locator, Registry] = {}

    async def borrow(self, locator: Locator) -> Registry:
        if locator not in self._sessions:
            self._sessions[locator] = await self._stack.enter_async_context(
                self.world(locator.hosts[0].host).open(self._tell)
            )
        return self._sessions[locator]

    def give_back(self, locator: Locator) -> None:
        assert locator in self._sessions

    def _tell(self, event: Event) -> None:
        if isinstance(event, Checked):
            self.reached.append(event.registry)
        if event.level > DEBUG:  # the others are for the metrics
            self.told.append(event)

    def world(self, host: str = "zk") -> World:
        return self.worlds.setdefault(host, World())

    def nodes(self, path: str = "/nerve/web", host: str = "zk") -> list[dict[str, Any]]:
        return [json.loads(data) for data in self.world(host).nodes(path).values()]

    def said(self, *kinds: type[Event]) -> list[str]:
        return [str(event) for event in self.told if isinstance(event, kinds)]

    async def registered(self, count: int = 1, path: str = "/nerve/web", host: str = "zk") -> None:
        await eventually(lambda: len(self.nodes(path, host)) == count, f"{count} registrations in {path}", limit=3)


@asynccontextmanager
async def nerve() -> AsyncIterator[Nerve]:
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        running = Nerve(group, stack)
        yield running
        running.roster.end()


def services(instance_id: str = "i-1", **wanted: dict[str, Any]) -> tuple[Service, ...]:
    common = {"host": "127.0.0.1", "port": 80, "zk_hosts": ["zk"], "check_interval": 0.02}
    return plan(
        NerveSettings.model_validate(
            {
                "instance_id": instance_id,
                "services": {name: {"zk_path": f"/nerve/{name}", **common, **keys} for name, keys in wanted.items()},
            }
        )
    )


class Backend:
    """A TCP server that can be closed and opened again on its port."""

    port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def checked(self) -> dict[str, Any]:
        return {"port": self.port, "checks": [{"type": "tcp", "timeout": 1}]}


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    server = Backend()
    await server.open()
    yield server
    await server.close()


async def test_a_healthy_service_is_registered_and_a_dead_one_withdrawn(backend: Backend) -> None:
    async with nerve() as running:
        running.roster.change(services(web=backend.checked))
        assert running.roster.ready().lines == ("web: no verdict yet",)
        await running.registered()
        assert running.roster.ready() == Report(True, ("the service is checked and reported",))
        assert running.roster.health().lines == ("web: up, registered as /nerve/web/i-1_0000000000",)
        await backend.close()
        await running.registered(0)
        assert running.roster.ready().ok
        assert (
            running.roster.health()
            .lines[0]
            .endswith(
                f"down, not registered, web tcp-127.0.0.1:{backend.port}: 127.0.0.1:{backend.port}: Connection refused"
            )
        )
        await backend.open()
        await running.registered()
        assert [type(event) for event in running.told] == [Up, Registered, Down, Withdrawn, Up, Registered]


async def test_a_service_that_is_down_from_the_start_is_ready_and_not_registered(backend: Backend) -> None:
    await backend.close()
    async with nerve() as running:
        running.roster.change(services(web=backend.checked))
        await eventually(lambda: running.roster.ready().ok, "ready")
        assert running.nodes() == []
        await backend.open()


async def test_the_end_withdraws_all(backend: Backend) -> None:
    async with nerve() as running:
        running.roster.change(services(web=backend.checked, api={}, db={"node_type": "persistent"}))
        for name in ("web", "api", "db"):
            await running.registered(path=f"/nerve/{name}")
    assert [running.nodes(f"/nerve/{name}") for name in ("web", "api", "db")] == [[], [], []]


async def test_ready_waits_for_the_first_try_and_not_for_its_success(backend: Backend) -> None:
    async with nerve() as running:
        running.world().break_()
        running.roster.change(services(web=backend.checked, api={}))
        await eventually(lambda: running.roster.ready().ok, "ready")
        assert "web: up, not registered, memory is out of reach" in running.roster.health().lines
        running.world().heal()
        await running.registered()
    assert running.said(Lost) == []


async def test_a_service_that_is_not_in_the_new_list_is_withdrawn() -> None:
    async with nerve() as running:
        running.roster.change(services(web={}, api={}))
        await running.registered(path="/nerve/api")
        await running.registered()
        running.roster.change(services(web={}))
        await running.registered(0, "/nerve/api")
        assert len(running.nodes()) == 1
        running.roster.change(services(web={}, api={}))
        running.roster.change(services(web={}))
        running.roster.change(services(web={}, api={}))
        await running.registered(path="/nerve/api")
        await asyncio.sleep(0.1)
        assert len(running.nodes("/nerve/api")) == 1
        assert running.said(Lost) == []


async def test_an_unchanged_service_is_not_touched(backend: Backend) -> None:
    async with nerve() as running:
        running.roster.change(services(web=backend.checked))
        await running.registered()
        before = list(running.told)
        running.roster.change(services(web=backend.checked))
        await asyncio.sleep(0.1)
        assert running.told == before


async def test_a_service_that_comes_back_waits_for_its_withdrawal() -> None:
    async with nerve() as running:
        running.roster.change(services(web={}))
        await running.registered()
        running.world().break_()
        running.roster.change(())
        await asyncio.sleep(0.8)  # the withdrawal's pauses have grown: the new registration would be quicker
        running.roster.change(services(web={}))
        await asyncio.sleep(0.01)
        running.world().heal()
        await eventually(lambda: len(running.said(Registered)) == 2, "the second registration")
        await eventually(lambda: len(running.said(Withdrawn)) == 1, "the withdrawal of the first")
        await asyncio.sleep(0.1)
        assert running.said(Lost) == []
        assert len(running.nodes()) == 1


class Watching:
    """Sees whether a path is ever without a registration."""

    def __init__(self, running: Nerve, path: str = "/nerve/web") -> None:
        self.gaps = 0
        changed = running.world()._path(path).changed
        self._task = asyncio.ensure_future(self._follow(running, path, changed))

    async def _follow(self, running: Nerve, path: str, changed: Any) -> None:
        async for _ in changed:
            self.gaps += not running.nodes(path)

    async def end(self) -> None:
        await asyncio.sleep(0.05)
        self._task.cancel()


@pytest.mark.parametrize("kind", ["ephemeral_sequential", "ephemeral", "persistent", "persistent_sequential"])
async def test_a_changed_service_is_replaced_without_a_gap(kind: str, backend: Backend) -> None:
    async with nerve() as running:
        running.roster.change(services(web={**backend.checked, "node_type": kind}))
        await running.registered()
        watching = Watching(running)
        running.roster.change(services(web={**backend.checked, "node_type": kind, "weight": 7}))
        await eventually(lambda: [node.get("weight") for node in running.nodes()] == [7], "the new weight")
        running.roster.change(services("i-2", web={**backend.checked, "node_type": kind}))
        await eventually(lambda: [node["name"] for node in running.nodes()] == ["i-2"], "the new name")
        await watching.end()
        assert watching.gaps == 0
        told = len(running.told)
        await asyncio.sleep(0.1)  # some rounds, in which only the newest form has a say
        assert len(running.told) == told
        assert len(running.said(Up)) == 1
        assert running.said(Lost, Withdrawn, Down) == []


async def test_the_old_form_has_the_say_until_the_new_one_has_a_verdict(backend: Backend) -> None:
    async with nerve() as running:
        running.roster.change(services(web=backend.checked))
        await running.registered()
        hung = {"port": backend.port, "weight": 1, "checks": [{"type": "http", "uri": "/", "timeout": 60}]}
        reader = asyncio.Event()

        async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.wait()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as mute:
            hung["checks"][0]["port"] = mute.sockets[0].getsockname()[1]  # type: ignore[index]
            running.roster.change(services(web=hung))
            await backend.close()
            await running.registered(0)
            await backend.open()
            await running.registered()
            assert "weight" not in running.nodes()[0]
            running.roster.change(services(web={**backend.checked, "weight": 2}))
            await eventually(lambda: running.nodes()[0].get("weight") == 2, "the newest form")
            reader.set()
            await asyncio.sleep(0.1)  # a form that was replaced before its verdict has none
            assert [node.get("weight") for node in running.nodes()] == [2]


async def test_a_form_that_was_replaced_before_its_verdict_never_has_a_say(backend: Backend) -> None:
    asked, answered = 0, asyncio.Event()

    async def answer_the_first(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await (answered.wait() if asked == 1 else asyncio.sleep(60))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with nerve() as running, await asyncio.start_server(answer_the_first, "127.0.0.1", 0) as slow:
        check = {"type": "http", "uri": "/", "timeout": 60, "port": slow.sockets[0].getsockname()[1]}
        running.roster.change(services(web=backend.checked))
        await running.registered()
        for weight in (1, 2):
            running.roster.change(services(web={**backend.checked, "weight": weight, "checks": [check]}))
            await eventually(lambda: asked == weight, "a check of the new form")  # noqa: B023
        told = len(running.told)
        answered.set()
        await asyncio.sleep(0.1)
        assert len(running.told) == told
        assert "weight" not in running.nodes()[0]


async def test_a_new_form_that_is_down_takes_the_old_one_out(backend: Backend) -> None:
    async with nerve() as running:
        running.roster.change(services(web={}))
        await running.registered()
        await backend.close()
        running.roster.change(services(web=backend.checked))
        await running.registered(0)
        await backend.open()
        await running.registered()


async def test_a_service_moves_to_another_registry_without_a_gap() -> None:
    async with nerve() as running:
        running.roster.change(services(web={}))
        await running.registered()
        running.world("other").break_()
        running.roster.change(services(web={"zk_hosts": ["other"]}))
        await asyncio.sleep(0.2)
        assert len(running.nodes()) == 1
        running.world("other").heal()
        await running.registered(host="other")
        await running.registered(0)
    assert running.nodes(host="other") == []


async def test_a_move_that_is_taken_back_leaves_the_old_registration_alone(backend: Backend) -> None:
    async with nerve() as running:
        running.roster.change(services(web=backend.checked))
        await running.registered()
        running.world("typo").break_()
        watching = Watching(running)
        running.roster.change(services(web={**backend.checked, "zk_hosts": ["typo"]}))
        await asyncio.sleep(0.1)
        running.roster.change(services(web=backend.checked))
        await asyncio.sleep(0.1)
        running.world("typo").heal()
        await asyncio.sleep(0.3)
        await watching.end()
        assert watching.gaps == 0
        assert len(running.nodes()) == 1
        assert running.nodes(host="typo") == []


async def test_a_service_that_moves_and_is_removed_leaves_nothing() -> None:
    async with nerve() as running:
        running.roster.change(services(web={}))
        await running.registered()
        running.world("other").break_()
        running.roster.change(services(web={"zk_hosts": ["other"]}))
        await asyncio.sleep(0.05)
        running.roster.change(())
        await running.registered(0)
        running.world("other").heal()
        await asyncio.sleep(0.1)
        assert running.nodes(host="other") == []


async def test_two_services_on_one_path_are_two_nodes() -> None:
    async with nerve() as running:
        running.roster.change(services(one={"zk_path": "/nerve/web"}, two={"zk_path": "/nerve/web"}))
        await running.registered(2)


async def test_copies_for_a_load_test_are_services_of_their_own(backend: Backend) -> None:
    async with nerve() as running:
        running.roster.change(services(web={**backend.checked, "load_test_concurrency": 3}))
        await running.registered(3)
        assert [line.split(":")[0] for line in running.roster.health().lines] == ["web_0", "web_1", "web_2"]
        running.roster.change(services(web={**backend.checked, "load_test_concurrency": 2}))
        await running.registered(2)
        assert len(running.said(Withdrawn)) == 1


SELDOM = {"shadow_mode": False, "average_rate": 1, "max_burst": 1}


@pytest.mark.looptime
async def test_more_reports_than_the_rate_are_held_back_and_tried_again() -> None:
    up = True

    async def check(target: object) -> None:
        if not up:
            raise OSError("down")

    (service,) = services(web={"checks": [{"type": "tcp"}], "check_interval": 0.1, "rate_limiting": SELDOM})
    loop = asyncio.get_running_loop()
    async with nerve() as running:
        running.roster.change((replace(service, probes=(replace(service.probes[0], check=check),)),))
        await asyncio.sleep(0.05)
        assert len(running.nodes()) == 1
        start, up = loop.time(), False
        await asyncio.sleep(0.5)
        assert len(running.nodes()) == 1
        assert running.roster.health().lines[0].endswith("its report is held back by rate_limiting")
        await running.registered(0)
        assert 0.9 < loop.time() - start < 1.1
        up = True
        await asyncio.sleep(0.25)
        up = False  # before it could be reported: there is nothing to report then
        await asyncio.sleep(2)
        assert running.nodes() == []
        assert len(running.said(Registered)) == 1
        assert "held back" not in running.roster.health().lines[0]
    assert len(running.said(Throttled)) == 2  # said once for each stretch


@pytest.mark.looptime
async def test_a_service_without_checks_is_reported_when_it_may_be() -> None:
    rare = {"shadow_mode": False, "average_rate": 0.5, "max_burst": 1}
    async with nerve() as running:
        running.roster.change(services(web={"rate_limiting": rare}))
        await asyncio.sleep(0.9)
        assert running.nodes() == []
        assert not running.roster.ready().ok
        await running.registered()
        assert running.roster.ready().ok


async def test_shadow_mode_only_tells(backend: Backend) -> None:
    shadow = {**backend.checked, "rate_limiting": {"average_rate": 1, "max_burst": 1}}
    async with nerve() as running:
        running.roster.change(services(web=shadow))
        await running.registered()
        await backend.close()
        await running.registered(0)
        await backend.open()
        await running.registered()
    told = [event for event in running.told if isinstance(event, Throttled)]
    assert told == [Throttled("web", shadow=True)] * 2


@pytest.mark.looptime
async def test_a_reload_does_not_fill_the_bucket_again() -> None:
    async with nerve() as running:
        running.roster.change(services(web={"rate_limiting": SELDOM}))
        await asyncio.sleep(0.1)
        running.roster.change(services(web={"rate_limiting": SELDOM, "weight": 1}))
        await asyncio.sleep(0.5)
        assert [node.get("weight") for node in running.nodes()] == [None]
        await asyncio.sleep(0.6)
        assert [node.get("weight") for node in running.nodes()] == [1]


async def test_warnings_of_the_settings_are_told_once(backend: Backend) -> None:
    secret = {"checks": [{"type": "http", "uri": "/", "headers": {"Authorization": "x"}}], "port": backend.port}
    async with nerve() as running:
        for _ in range(3):
            running.roster.change(services(web=secret))
        assert len([event for event in running.told if "Authorization" in str(event)]) == 1


@pytest.mark.looptime
@pytest.mark.parametrize("interval", [1, 300])
async def test_first_checks_come_soon_and_the_others_are_spread_over_the_interval(interval: float) -> None:
    asked: dict[str, list[float]] = {}
    loop = asyncio.get_running_loop()

    def note(name: str) -> Check:
        async def check(target: Address) -> None:
            asked.setdefault(name, []).append(loop.time() - start)

        return check

    keys = {"checks": [{"type": "tcp"}], "check_interval": interval}
    wanted = services("i-1", **{f"s{number:02}": keys for number in range(100)})
    async with nerve() as running:
        start = loop.time()
        running.roster.change(replace(one, probes=(replace(one.probes[0], check=note(one.name)),)) for one in wanted)
        await asyncio.sleep(3.4 * interval)
    assert list(asked) == [service.name for service in wanted]
    for number, moments in enumerate(asked.values()):
        first, second, *others = moments
        assert first == pytest.approx(FIRST_WAIT * number, abs=1e-4)
        assert interval / 2 <= second - first <= 1.5 * interval
        assert len(others) in (1, 2)
        assert all((moment / interval) % 1 == pytest.approx(number / 100, abs=1e-4) for moment in (second, *others))


@pytest.mark.looptime
async def test_a_service_whose_checks_do_not_end_is_unwell_and_ends_with_them() -> None:
    async def stubborn(target: object) -> None:
        end = asyncio.get_running_loop().time() + 1000
        while asyncio.get_running_loop().time() < end:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)

    (service,) = services(web={"checks": [{"type": "tcp"}], "check_interval": 1})
    async with nerve() as running:
        running.roster.change((replace(service, probes=(replace(service.probes[0], check=stubborn),)),))
        assert running.roster.health().ok
        await asyncio.sleep(5)
        assert running.roster.health().lines[0] == "web: no check has ended for 5 s"
        assert not running.roster.health().ok


async def test_no_service_is_ready_at_once() -> None:
    async with nerve() as running:
        running.roster.change(())
        assert running.roster.ready().ok


async def test_a_bug_withdraws_all_and_goes_up(backend: Backend) -> None:
    caught: list[BaseException] = []
    running: Nerve | None = None
    try:
        async with nerve() as running:
            running.roster.change(services(web=backend.checked))
            await running.registered()
            raise KeyError("bug")
    except* KeyError as group:
        caught.extend(group.exceptions)
    assert len(caught) == 1
    assert running is not None
    assert running.nodes() == []


async def test_a_service_that_waits_for_its_rise_says_so(backend: Backend) -> None:
    checks = [{"type": "tcp", "timeout": 1, "rise": 1000}]
    await backend.close()
    async with nerve() as running:
        running.roster.change(services(web={**backend.checked, "checks": checks}))
        await eventually(lambda: "refused" in running.roster.health().lines[0], "down")
        await backend.open()
        said = "web: down, not registered, its checks pass again, but not yet as often in a row as `rise` says"
        await eventually(lambda: running.roster.health().lines == (said,), "passing again")


async def test_each_round_tells_whether_the_registry_can_be_reached() -> None:
    async with nerve() as running:
        running.roster.change(services(web={}))
        await running.registered()
        assert all(running.reached)
        running.world().break_()
        await eventually(lambda: not running.reached[-1], "a round without the registry", limit=3)
        running.world().heal()
        await eventually(lambda: running.reached[-1], "a round with the registry", limit=3)
