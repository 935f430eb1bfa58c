"""Labelled containers that come, go and change, against the memory registry and real listening sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from dockstack.docker.containers import Container, Network, Picture, Published, picture
from dockstack.events import DEBUG, Event, Warn
from dockstack.nerve.events import Launched, Reaped, Registered, Withdrawn
from dockstack.nerve.labelled import Terms
from dockstack.nerve.provider import Provider
from dockstack.nerve.roster import Roster
from dockstack.nerve.service import Service, plan
from dockstack.registry import Locator, Registry
from dockstack.registry.memory import World
from dockstack.registry.url import parse_url
from dockstack.settings.nerve import NerveSettings
from tests.waiting import eventually

LOCATOR, BASE = parse_url("zk://zk/nerve")
TERMS = Terms(
    "i-1",
    LOCATOR,
    BASE,
    "127.0.0.1",
    "host",
    {"tcp": {"check_interval": 0.02, "checks": [{"type": "tcp", "timeout": 1}]}},
)
LABELS = {"dockstack.web.port": "80"}


def container(name: str, port: int, labels: dict[str, str] | None = None, **keys: Any) -> Container:
    published = (Published(80, "tcp", "0.0.0.0", port),)
    there = (Network("bridge", "172.17.0.2", ""),)
    keys = {"published": published, "networks": there, "labels": labels or LABELS, **keys}
    return Container(f"id of {name}", name, "web", "running", "1", **keys)


class Nerve:
    """A provider whose registry is in memory."""

    def __init__(self, group: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
        self.world = World()
        self.told: list[Event] = []
        self._now: Picture | None = None
        roster = Roster(group, self, self.told.append)
        self.provider = Provider(roster, lambda: self._now, None, self.told.append)
        self._stack = stack
        self._session: Registry | None = None

    async def borrow(self, locator: Locator) -> Registry:
        if self._session is None:
            self._session = await self._stack.enter_async_context(self.world.open(self.told.append))
        return self._session

    def give_back(self, locator: Locator) -> None:
        assert self._session is not None

    def see(self, *containers: Container, others: Iterable[Service] = (), terms: Terms | None = TERMS) -> None:
        self._now = picture(containers)
        self.provider.see(others, terms)

    async def registered(self, count: int = 1, path: str = "/nerve/web") -> None:
        await eventually(lambda: len(self.world.nodes(path)) == count, f"{count} registrations in {path}", limit=3)

    def said(self, *kinds: type[Event]) -> list[str]:
        return [str(event) for event in self.told if isinstance(event, kinds)]


@asynccontextmanager
async def nerve() -> AsyncIterator[Nerve]:
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        running = Nerve(group, stack)
        yield running
        running.provider.end()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        yield int(server.sockets[0].getsockname()[1])


async def test_a_labelled_container_is_registered_while_it_runs(port: int) -> None:
    async with nerve() as running:
        assert running.provider.ready().lines == ("labels: the Docker engine has not answered yet",)
        one = container("c1", port)
        running.see(one, container("other", port, {"com.docker": "1"}))
        assert not running.provider.ready().ok
        await running.registered()
        assert running.provider.ready().ok
        running.see(replace(one, stopping=True))
        await running.registered(0)
        running.see(replace(one, started="2"))
        await running.registered()
        running.see(replace(one, started="2", state="paused"))
        await running.registered(0)
        running.see()
        assert running.said(Warn) == []


async def test_what_is_unchanged_is_left_alone(port: int) -> None:
    async with nerve() as running:
        one, other = container("c1", port), container("c2", port)
        running.see(one)
        await running.registered()
        before = running.world.nodes("/nerve/web")
        running.see(replace(one, health="healthy"), other)
        await running.registered(2)
        running.see(one)
        await running.registered(1)
        assert running.world.nodes("/nerve/web") == before
        assert [str(event) for event in running.told if isinstance(event, Launched | Reaped | Registered)] == [
            "web@c1:80 is looked after (new)",
            "web@c1:80 is registered as /nerve/web/i-1_0000000000",
            "web@c2:80 is looked after (new)",
            "web@c2:80 is registered as /nerve/web/i-1_0000000001",
            "web@c2:80 is no longer looked after (old)",
        ]


@pytest.mark.parametrize("change", [{"started": "2"}, {"id": "another"}, {"published": ()}])
async def test_a_container_that_was_started_again_is_checked_before_it_is_registered_again(
    port: int, change: dict[str, Any]
) -> None:
    """The events between may be missed: the picture alone tells of a new start, and of another address."""
    async with nerve() as running, await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0) as server:
        one = container("c1", port)
        running.see(one)
        await running.registered()
        if "published" in change:
            change = {"published": (Published(80, "tcp", "0.0.0.0", server.sockets[0].getsockname()[1]),)}
        running.see(replace(one, **change))
        await eventually(lambda: len(running.said(Registered)) == 2, "the second registration", limit=3)
        assert len(running.said(Withdrawn)) == 1
        kinds = [type(event) for event in running.told if isinstance(event, Registered | Withdrawn)]
        assert kinds == [Registered, Withdrawn, Registered]


async def test_a_faulty_container_is_skipped_by_name_once(port: int) -> None:
    async with nerve() as running:
        bad = container("bad", port, {"dockstack.web.prot": "80"})
        running.see(bad, container("good", port))
        running.see(replace(bad, health="starting"), container("good", port))
        running.see(replace(bad, state="exited"), container("good", port))
        running.see(replace(bad, started="2"), container("good", port))
        await running.registered()
        assert running.said(Warn) == [
            "the container bad is skipped: label dockstack.web.prot: unknown; did you mean dockstack.web.port?"
        ]
        assert [line for line in running.provider.health().lines if "is skipped" in line] == [
            f"degraded: {running.said(Warn)[0]}"
        ]
        assert running.provider.health().ok
        running.see(replace(bad, labels={"dockstack.enable": "x"}))
        running.see()
        running.see(bad)
        assert len(running.said(Warn)) == 3
        many = {f"dockstack.a{number}.b": "" for number in range(7)}
        running.see(container("many", port, many))
        assert running.said(Warn)[-1].endswith("; and 2 more")


async def test_a_service_without_an_address_is_skipped_and_the_others_go_on(port: int) -> None:
    async with nerve() as running:
        labels = {**LABELS, "dockstack.admin.port": "81"}
        running.see(container("c1", port, labels))
        await running.registered()
        assert running.said(Warn) == [
            "admin@c1:81 is skipped: container c1 does not publish port 81; published: "
            f"80/tcp at 0.0.0.0:{port}; start it with -p 81"
        ]


async def test_a_name_or_a_place_that_is_taken_is_skipped_and_told(port: int) -> None:
    common = {"zk_hosts": ["zk"], "zk_path": "/nerve/web", "host": "127.0.0.1"}
    typed = {"web@c1:80": {**common, "port": 1}, "typed": {**common, "port": str(port)}}
    others = plan(NerveSettings.model_validate({"instance_id": "i", "services": typed}))
    async with nerve() as running:
        running.see(container("c1", port), container("c2", port), container("c3", 1), others=others)
        assert running.said(Warn) == [
            "web@c1:80 is skipped: there is another service of this name; give one of them another",
            "web@c2:80 is skipped: it is registered as typed already; remove the labels or that service",
            "web@c3:80 is skipped: it is registered as web@c1:80 already; remove the labels or that service",
        ]
        running.see(container("c1", port), container("c2", port), container("c3", 1))
        assert len(running.said(Launched)) == 3


async def test_other_terms_count_from_the_next_picture_on(port: int) -> None:
    async with nerve() as running:
        running.see(container("c1", port))
        await running.registered()
        running.see(container("c1", port), terms=replace(TERMS, base="/other"))
        await running.registered(1, "/other/web")
        await running.registered(0)
        running.see(container("c1", port), terms=None)
        await running.registered(0, "/other/web")


async def test_what_other_terms_would_break_is_told_before(port: int) -> None:
    async with nerve() as running:
        running.see(container("bad", port, {"dockstack.x": ""}), container("good", port))
        assert running.provider.faults(TERMS) == ()
        (fault,) = running.provider.faults(
            replace(TERMS, templates={}, broken={"tcp": "/config/tcp.yaml:1: is no map"})
        )
        assert str(fault) == "container good: label dockstack.web.check: /config/tcp.yaml:1: is no map"


async def test_readiness_is_that_of_the_first_picture(port: int) -> None:
    async with nerve() as running:
        running.see()
        assert running.provider.ready().ok
        running.see(container("c1", port))
        assert running.provider.ready().ok
        assert [event for event in running.told if event.level > DEBUG] == []
