"""Asking DNS, on a real server."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator

import pytest

from dockstack.errors import ConfigurationError
from dockstack.model import Address
from dockstack.synapse import nameserver
from dockstack.synapse.lookups import NOWHERE, Kind, Question, Records, Service
from dockstack.synapse.nameserver import LookupFailed, Nameservers
from tests.servers.dns import DnsServer
from tests.servers.ports import free_port


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer() as one:
        yield one


def asking(*servers: DnsServer | int) -> Nameservers:
    ports = (one if isinstance(one, int) else one.port for one in servers)
    return Nameservers([Address("127.0.0.1", port) for port in ports])


async def ask(names: Nameservers, name: str, kind: Kind = "A") -> Records:
    return await names.records(Question(name, kind))


async def failure(names: Nameservers, name: str, kind: Kind = "A") -> str:
    with pytest.raises(LookupFailed) as raised:
        await ask(names, name, kind)
    return str(raised.value)


async def test_records_in_order_with_the_shortest_life_on_the_way(server: DnsServer) -> None:
    server.set("db.test", "A", "10.0.0.2", "10.0.0.1")
    server.set("db.test", "AAAA", "fd00::0:1")
    server.set("alias.test", "CNAME", "db.test.")
    server.set("_web._tcp.test", "SRV", "10 5 8080 db.test.", "0 1 80 .")
    names = asking(server)
    assert await ask(names, "db.test") == Records(("10.0.0.1", "10.0.0.2"), 300)
    assert await ask(names, "db.test.", "AAAA") == Records(("fd00::1",), 300)
    server.ttl = 7
    assert await ask(names, "alias.test") == Records(("10.0.0.1", "10.0.0.2"), 7)
    services = (Service(0, 1, 80, "."), Service(10, 5, 8080, "db.test"))
    assert await ask(names, "_web._tcp.test", "SRV") == Records(services, 7)


async def test_a_name_without_such_records_has_none(server: DnsServer) -> None:
    server.set("db.test", "A", "10.0.0.1")
    assert (await ask(asking(server), "db.test", "AAAA")).values == ()


async def test_a_name_that_does_not_exist(server: DnsServer) -> None:
    server.set("alias.test", "CNAME", "none.test.")
    assert await ask(asking(server), "none.test") == NOWHERE
    assert await ask(asking(server), "alias.test") == NOWHERE


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
async def test_a_refusal_is_told_with_its_server(server: DnsServer, rcode: str) -> None:
    server.rcodes["db.test"] = rcode
    assert await failure(asking(server), "db.test") == f"127.0.0.1@{server.port}: {rcode}"


async def test_silence_has_a_limit(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameserver, "LIMIT", 0.3)
    monkeypatch.setattr(nameserver, "ONE_TRY", 0.1)
    server.silent.add("db.test")
    assert await failure(asking(server), "db.test") == "no answer within 0.3 s"
    assert server.count("db.test") > 1


async def test_nobody_at_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameserver, "LIMIT", 0.3)
    monkeypatch.setattr(nameserver, "ONE_TRY", 0.1)
    assert await failure(asking(free_port()), "db.test")


async def test_the_next_server_is_asked(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameserver, "ONE_TRY", 0.1)
    server.set("db.test", "A", "10.0.0.1")
    async with DnsServer() as broken:
        broken.rcodes["db.test"] = "SERVFAIL"
        assert (await ask(asking(free_port(), broken, server), "db.test")).values == ("10.0.0.1",)
        assert broken.count("db.test") == 1


async def test_what_udp_cuts_off_comes_by_tcp(server: DnsServer) -> None:
    server.truncates = True
    addresses = [f"10.0.{number}.1" for number in range(200)]
    server.set("many.test", "A", *addresses)
    assert len((await ask(asking(server), "many.test")).values) == 200
    assert [way for _, _, way in server.asked] == ["udp", "tcp"]


async def test_a_nameserver_by_name(server: DnsServer) -> None:
    server.set("db.test", "A", "10.0.0.1")
    names = Nameservers([Address("localhost", server.port)])
    assert (await ask(names, "db.test")).values == ("10.0.0.1",)
    assert await failure(Nameservers([Address("nameserver.invalid", 53)]), "db.test")


async def test_the_systems_nameservers(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.resolver

    def configured(self: dns.resolver.BaseResolver, path: str) -> None:
        self.nameservers = ["127.0.0.1"]
        self.port = server.port

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", configured)
    server.set("db.test", "A", "10.0.0.1")
    assert (await ask(Nameservers(), "db.test")).values == ("10.0.0.1",)


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".test"])
async def test_what_is_no_name_is_a_failure(server: DnsServer, name: str) -> None:
    assert await failure(asking(server), name)
    assert server.asked == []


def test_the_library_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    nameserver.require("here")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"here: .*pip install 'dockstack\[dns\]'"):
        nameserver.require("here")
