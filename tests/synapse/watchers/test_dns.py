"""Following names, on a real DNS server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dockstack.errors import ConfigurationError
from dockstack.events import Warn
from dockstack.model import Instance
from dockstack.settings.discovery import DnsDiscovery
from dockstack.synapse import agenda
from dockstack.synapse.events import Unresolved
from dockstack.synapse.watchers import dns
from dockstack.synapse.watchers._named import NamedWatcher
from tests.servers.dns import DnsServer
from tests.synapse.watchers.following import Followed, Sessions
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come soon, so that the tests need not wait."""
    monkeypatch.setattr(agenda, "SHORTEST", 0.02)
    monkeypatch.setattr(agenda, "HOLD", 0.5)


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer() as one:
        yield one


def settings(server: DnsServer, *servers: dict[str, Any], **more: Any) -> DnsDiscovery:
    return DnsDiscovery.model_validate(
        {"method": "dns", "servers": servers, "nameserver": server.address, "check_interval": 0, **more}
    )


def watcher(followed: Followed, server: DnsServer, *servers: dict[str, Any], **more: Any) -> NamedWatcher:
    built = dns.build(settings(server, *servers, **more), Sessions(), followed.said.append)
    assert isinstance(built, NamedWatcher)
    return built


def at(host: str, **more: Any) -> dict[str, Any]:
    return {"host": host, "port": 80, **more}


async def test_addresses_and_their_changes(server: DnsServer) -> None:
    server.set("web.test", "A", "10.0.0.2", "10.0.0.1")
    server.set("web.test", "AAAA", "fd00::1")
    followed = Followed()
    web = at("web.test", name="web", labels={"az": "a"})
    async with followed.following(watcher(followed, server, web, at("10.0.0.7"))):
        await eventually(lambda: bool(followed.seen), "the first set")
        assert followed.seen[0].instances == (
            *(Instance(host, 80, "web", labels='{"az":"a"}') for host in ("10.0.0.1", "10.0.0.2", "fd00::1")),
            Instance("10.0.0.7", 80),
        )
        asked = server.count("web.test")
        server.set("web.test", "A", "10.0.0.1", "10.0.0.2")
        await eventually(lambda: server.count("web.test") > asked + 3, "more looks")
        assert len(followed.seen) == 1
        server.set("web.test", "A", "10.0.0.3")
        await eventually(lambda: followed.hosts == ["10.0.0.3", "fd00::1", "10.0.0.7"], "the change")
    assert followed.said == []


@pytest.mark.parametrize("fault", ["NXDOMAIN", "SERVFAIL", "REFUSED", "no answer"])
async def test_a_look_that_fails_keeps_what_there_was_and_is_named(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("dockstack.synapse.nameserver.LIMIT", 0.2)
    for name in ("web.test", "db.test"):
        server.set(name, "A", "10.0.0.1")
    followed = Followed()
    async with followed.following(watcher(followed, server, at("web.test"), at("db.test", name="db"))):
        await eventually(lambda: len(followed.hosts) == 2, "the first set")
        if fault == "no answer":
            server.silent.add("web.test")
        else:
            server.rcodes["web.test"] = fault
        await eventually(lambda: len(followed.problems) == 1 and fault in followed.problems[0], "the failure is named")
        assert "web.test" in followed.problems[0]
        assert "stays in use" in followed.problems[0]
        server.set("db.test", "A", "10.0.0.2")
        await eventually(lambda: "10.0.0.2" in followed.hosts, "the other name goes on")
        assert followed.hosts == ["10.0.0.1", "10.0.0.2"]
        server.rcodes.clear()
        server.silent.clear()
        await eventually(lambda: followed.problems == (), "all is well again")
    assert all(len(one.instances) == 2 for one in followed.seen)
    failed = [event for event in followed.said if isinstance(event, Unresolved)]
    assert {one.name for one in failed} == {"web.test"}
    assert {one.kind for one in failed} == {"A", "AAAA"}


async def test_where_nothing_is_known_there_is_silence_with_a_reason(server: DnsServer) -> None:
    server.rcodes["web.test"] = "SERVFAIL"
    followed = Followed()
    async with followed.following(watcher(followed, server, at("web.test"))):
        await eventually(lambda: server.count("web.test") > 3, "some looks")
        assert followed.seen == []
        assert followed.has_said("web.test cannot be looked up")
        warnings = [event for event in followed.said if isinstance(event, Warn)]
        assert len(warnings) <= 2  # A alone may have failed before AAAA had
        server.rcodes.clear()
        server.set("web.test", "A", "10.0.0.1")
        await eventually(lambda: followed.hosts == ["10.0.0.1"], "the first set")


async def test_one_name_that_was_never_known_does_not_hold_the_others(server: DnsServer) -> None:
    server.set("web.test", "A", "10.0.0.1")
    followed = Followed()
    async with followed.following(watcher(followed, server, at("none.test"), at("web.test"))):
        await eventually(lambda: followed.hosts == ["10.0.0.1"], "the name that is known")
        assert "none.test" in followed.problems[0]
        assert "NXDOMAIN" in followed.problems[0]


async def test_a_name_without_addresses_is_an_empty_answer_with_a_name(server: DnsServer) -> None:
    server.set("web.test", "A", "10.0.0.1")
    followed = Followed()
    async with followed.following(watcher(followed, server, at("web.test"))):
        await eventually(lambda: followed.hosts == ["10.0.0.1"], "the first set")
        server.set("web.test", "A")
        await eventually(lambda: followed.hosts == [], "the empty set")
        assert "web.test has no A and no AAAA records" in followed.problems[0]


async def test_a_name_that_is_long_gone_has_no_servers(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.set("web.test", "A", "10.0.0.1")
    followed = Followed()
    async with followed.following(watcher(followed, server, at("web.test"))):
        await eventually(lambda: followed.hosts == ["10.0.0.1"], "the first set")
        server.remove("web.test")
        await eventually(lambda: "NXDOMAIN" in "".join(followed.problems), "it is named")
        assert followed.hosts == ["10.0.0.1"]
        monkeypatch.setattr(agenda, "ABSENT", 0.1)
        await eventually(lambda: followed.hosts == [], "it is believed")
        await eventually(lambda: "web.test does not exist" in followed.problems[0], "it is said")


async def test_services(server: DnsServer) -> None:
    server.set("_web._tcp.test", "SRV", "0 1 8081 a.test.", "0 3 8082 b.test.")
    server.set("a.test", "A", "10.0.0.1")
    server.set("b.test", "A", "10.0.0.2")
    followed = Followed()
    async with followed.following(watcher(followed, server, {"host": "_web._tcp.test", "name": "web"})):
        await eventually(lambda: bool(followed.seen), "the first set")
        assert followed.seen[0].instances == (
            Instance("10.0.0.1", 8081, "web", weight=1),
            Instance("10.0.0.2", 8082, "web", weight=3),
        )
        server.set("_web._tcp.test", "SRV", "0 0 8083 b.test.")
        await eventually(lambda: followed.seen[-1].instances == (Instance("10.0.0.2", 8083, "web"),), "the change")
        server.rcodes["_web._tcp.test"] = "SERVFAIL"
        await eventually(lambda: len(followed.problems) == 1, "the failure is named")
        assert followed.hosts == ["10.0.0.2"]


async def test_nothing_goes_on_when_nobody_follows(server: DnsServer) -> None:
    server.silent.add("web.test")
    followed = Followed()
    before = asyncio.all_tasks()
    async with followed.following(watcher(followed, server, at("web.test"))):
        await eventually(lambda: server.count("web.test") > 0, "a look")
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("nameserver", "named"),
    [("10.0.0.1:99999", "nameserver"), (["a b"], "nameserver")],
)
def test_what_cannot_be_read_is_refused(nameserver: Any, named: str) -> None:
    own = DnsDiscovery.model_validate({"method": "dns", "servers": [at("a.test")], "nameserver": nameserver})
    with pytest.raises(ConfigurationError, match=named):
        dns.build(own, Sessions(), print)
