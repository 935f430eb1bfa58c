"""The wanted document follows the picture; a server keeps its id over everything that forgets; servers that left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from dockstack.events import Event
from dockstack.model import Catalog, Entry, Instance
from dockstack.settings.synapse import HaproxySettings, SynapseService, SynapseSettings
from dockstack.synapse.haproxy import drafts as module
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.haproxy.drafts import Drafts
from dockstack.synapse.haproxy.effects import loaded
from dockstack.synapse.haproxy.model import Document, capabilities
from dockstack.synapse.haproxy.past import Past, encode
from dockstack.synapse.names import Names
from tests.waiting import eventually

LAYOUT = Layout(HaproxySettings.model_validate({"global": [], "defaults": []}), (), "host")
A, B = Instance("10.0.0.1", 80, "a", id=12), Instance("10.0.0.2", 80, "b", id=13)
OWN = SynapseService.model_validate({"discovery": {"method": "base"}, "haproxy": {"backend_order": "asc"}})


class History:
    """A past at a moment that the test chooses."""

    def __init__(self) -> None:
        self.past = Past(100.0)
        self.now = 0.0

    def see(self, service: str, own: SynapseService, entry: Entry, ids: Mapping[str, int]) -> None:
        self.past.see(service, own, entry, ids, self.now)

    def departed(self, service: str) -> tuple[Instance, ...]:
        return self.past.departed(service, self.now)

    def forget(self, service: str) -> None:
        self.past.forget(service, self.now)


def silent(event: Event) -> None:
    raise AssertionError(str(event))


def take_resolved(drafts: Drafts, hosts: frozenset[str]) -> None:
    drafts.resolved(hosts)


def remember(service: str, entry: Entry, ids: Mapping[str, int]) -> None:
    """Nothing is kept."""


def test_a_server_that_left_is_listed_with_its_id_until_its_time_is_over() -> None:
    history = History()
    drafts = Drafts(Names(silent), {}, remember, silent, history)
    services = MappingProxyType({"web": OWN})

    def take(*hosts: str) -> frozenset[str]:
        entry = Entry(tuple(Instance(host, 80) for host in hosts))
        return drafts.take(Picture(LAYOUT, services, Catalog(MappingProxyType({"web": entry}))))

    def servers() -> dict[str, tuple[int | None, bool]]:
        return {one.name: (one.id, one.disabled) for one in drafts.wanted.stanzas["web"].backend.servers}

    take("10.0.0.1", "10.0.0.2")
    before = servers()
    assert [disabled for _, disabled in before.values()] == [False, False]
    assert take("10.0.0.2") == {"web"}
    gone = before["10.0.0.1:80"][0]
    assert servers() == {**before, "10.0.0.1:80": (gone, True)}
    take("10.0.0.1", "10.0.0.2")
    assert servers() == before
    take("10.0.0.2")
    history.now = 100.5
    assert drafts.again(["web"]) == {"web"}
    assert set(servers()) == {"10.0.0.2:80"}


def test_where_nothing_that_is_registered_can_be_served_what_was_served_stays() -> None:
    told: list[Event] = []
    drafts = Drafts(Names(silent), {}, remember, told.append)

    def take(own: SynapseService, *instances: Instance) -> set[str]:
        catalog = Catalog(MappingProxyType({"web": Entry(instances)}))
        drafts.take(Picture(LAYOUT, MappingProxyType({"web": own}), catalog))
        return {one.name.split("_")[0] for one in drafts.wanted.stanzas["web"].backend.servers}

    bad = replace(B, haproxy_server_options='check "')
    assert take(OWN, bad) == set()
    assert take(OWN, A) == {"a"}
    assert take(OWN, bad) == set()  # nobody knows whether HAProxy takes A
    take(OWN, A)
    drafts.prove(["web"])
    assert take(OWN, bad) == {"a"}
    assert str(told[-1]) == (
        "service web: no instance that is registered can be served; the 1 of before stay in service"
    )
    drafts.prove(["web"])
    named = Instance("web.example", 80, "n")
    assert take(OWN, named) == {"a"}
    assert drafts.problems == ()  # the name is being looked up
    assert take(OWN, B) == {"b"}
    drafts.prove(["web"])
    assert drafts.refuse([("web", "b_10.0.0.2:80", "no")]) == {"web"}
    assert drafts.wanted.stanzas["web"].backend.servers == ()
    assert take(OWN) == set()
    assert take(OWN, A) == {"a"}
    drafts.prove(["web"])
    assert take(OWN.model_copy(update={"use_previous_backends": False}), bad) == set()


async def test_a_server_that_left_keeps_the_address_of_its_hosts_name() -> None:
    names = Names(silent, lambda host: ("10.0.0.9",))
    drafts = Drafts(names, {}, remember, silent, History())
    services = MappingProxyType({"web": OWN})

    def take(*hosts: str) -> list[str]:
        entry = Entry(tuple(Instance(host, 80) for host in hosts))
        drafts.take(Picture(LAYOUT, services, Catalog(MappingProxyType({"web": entry}))))
        return [one.name for one in drafts.wanted.stanzas["web"].backend.servers]

    assert take("db", "10.0.0.2") == ["10.0.0.2:80"]  # the name is being looked up
    looking = asyncio.create_task(names.run(lambda hosts: take_resolved(drafts, hosts)))
    await eventually(lambda: len(drafts.wanted.stanzas["web"].backend.servers) == 2, "resolved")
    assert take("10.0.0.2") == ["10.0.0.2:80", "db:80"]
    assert "db" in names.addresses
    looking.cancel()
    await asyncio.wait((looking,))


async def test_names_are_followed_as_long_as_their_service_is_haproxys() -> None:
    names = Names(silent, lambda host: ("10.0.0.9",))
    history = History()
    drafts = Drafts(names, {}, remember, silent, history)
    catalog = Catalog(MappingProxyType({name: Entry((Instance(f"db-{name}", 80),)) for name in "st"}))
    off = OWN.model_copy(update={"haproxy": OWN.haproxy.model_copy(update={"disabled": True})})

    def take(**services: SynapseService) -> None:
        drafts.take(Picture(LAYOUT, MappingProxyType(services), catalog))

    looking = asyncio.create_task(names.run(lambda hosts: take_resolved(drafts, hosts)))
    take(s=OWN, t=OWN)
    await eventually(lambda: names.addresses.keys() == {"db-s", "db-t"}, "resolved")
    take(s=OWN, t=off)
    assert names.addresses.keys() == {"db-s"}
    take(s=OWN)
    assert names.addresses.keys() == {"db-s"}
    take(s=OWN, t=OWN)
    await eventually(lambda: bool(drafts.wanted.stanzas["t"].backend.servers), "and it is served again")
    looking.cancel()
    await asyncio.wait((looking,))


def test_the_servers_of_a_service_that_is_gone_have_left() -> None:
    history = History()
    drafts = Drafts(Names(silent), {}, remember, silent, history)
    catalog = Catalog(MappingProxyType({"s": Entry((A,)), "t": Entry((B,))}))
    drafts.take(Picture(LAYOUT, MappingProxyType({"s": OWN, "t": OWN}), catalog))
    history.now = 10.0
    drafts.take(Picture(LAYOUT, MappingProxyType({"t": OWN}), catalog.without(frozenset("s"))))
    history.now = 20.0
    assert [one.name for one in history.past.departed("s", history.now)] == ["a"]
    assert history.past.expire(111.0) == {"s"}
    assert json.loads(encode(history.past.content(111.0))).keys() == {"t"}


def picture(extra: str = "log global", /, **services: tuple[Instance, ...]) -> Picture:
    top = {"config_file_path": "/x", "socket_file_path": "/y", "extra_sections": {"listen x": [extra]}}
    plain: dict[str, Any] = {
        "haproxy": {"global": [], "defaults": [], **top},
        "services": {name: {"discovery": {"method": "base"}, "haproxy": {"listen": ["mode http"]}} for name in "st"},
    }
    settings = SynapseSettings.model_validate(plain)
    assert settings.haproxy is not None
    entries = {name: Entry(instances) for name, instances in services.items()}
    return Picture(Layout(settings.haproxy, (), "h"), settings.services, Catalog(MappingProxyType(entries)))


def made(known: Mapping[str, Mapping[str, int]] | None = None) -> tuple[Drafts, list[str]]:
    told: list[str] = []

    def emit(event: Event) -> None:
        told.append(str(event))

    return Drafts(Names(emit), known or {}, lambda *_: None, emit), told


def ids(document: Document, service: str = "s") -> dict[str, int | None]:
    return {one.name.partition("_")[0]: one.id for one in document.stanzas[service].backend.servers}


def test_only_what_has_changed_is_drafted_again() -> None:
    one, _ = made()
    first = picture(s=(A,), t=(B,))
    assert one.take(first) == {"s", "t"}
    before = one.wanted.stanzas["t"]
    assert one.take(first.with_entry("s", Entry((A, B)))) == {"s"}
    assert one.wanted.stanzas["t"] is before
    assert ids(one.wanted) == {"a": 12, "b": 13}


def test_other_sections_around_the_services_are_a_change_of_no_service() -> None:
    one, _ = made()
    one.take(picture(s=(A,), t=(B,)))
    assert one.take(picture(s=(A,), t=(B,))) == set()
    assert one.take(picture("mode tcp", s=(A,), t=(B,))) == {""}
    assert one.take(picture(s=(A,), t=(A,))) == {"", "t"}


def test_a_server_keeps_the_id_that_it_has_in_the_file_or_in_the_process() -> None:
    """Both killed a moment after a change: the snapshot has not heard of it, and the registry has another number."""
    last, _ = made()
    last.take(picture(s=(A,), t=(B,)))
    served = last.wanted
    moved = tuple(Instance(one.host, one.port, one.name, id=number) for one, number in ((A, 30), (B, 12)))
    for recall in (True, False):
        one, _ = made()
        one.take(picture(s=moved, t=(B,)))
        assert ids(one.wanted) == {"a": 30, "b": 12}
        running = loaded(served, capabilities((2, 8)))
        assert (one.recall(served) if recall else one.learn(running)) == {"s"}
        assert ids(one.wanted)["a"] == 12
        assert ids(one.wanted)["b"] not in (12, None)
        assert (one.recall(served) if recall else one.learn(running)) == set()


def test_an_id_that_was_saved_gives_way_to_the_one_that_was_served() -> None:
    one, _ = made({"s": {"a_10.0.0.1:80": 5, "gone": 12}})
    one.take(picture(s=(A,)))
    assert ids(one.wanted) == {"a": 5}
    served, _ = made()
    served.take(picture(s=(A,)))
    assert one.recall(served.wanted) == {"s"}
    assert ids(one.wanted) == {"a": 12}


def test_what_haproxy_takes_is_known_by_its_file_and_by_its_process() -> None:
    last, _ = made()
    last.take(picture(s=(A,), t=(B,)))
    one, _ = made()
    one.take(picture(s=(A,), t=(B,)))
    one.recall(last.wanted)
    assert one.taken is last.wanted
    last.take(picture(s=(B,), t=(B,)))
    running = loaded(last.wanted, capabilities((2, 8)))
    one.learn(running)
    assert one.taken is running.loaded
    one.learn(replace(running, loaded=None))
    assert one.taken is running.loaded


def test_a_server_that_is_refused_is_left_out_until_it_is_described_otherwise() -> None:
    one, told = made()
    first = picture(s=(A, B), t=(B,))
    one.take(first)
    assert one.refuse([("s", "a_10.0.0.1:80", "no"), ("s", "c", "no"), ("x", "a", "no")]) == {"s"}
    assert ids(one.wanted) == {"b": 13}
    said = "service s: server a_10.0.0.1:80 is left out, HAProxy does not take it: no"
    assert (list(one.problems), told) == ([said], [said])
    assert one.refuse([("s", "b_10.0.0.2:80", "nor this")]) == {"s"}
    assert one.take(first.with_entry("s", Entry((A, replace(B, haproxy_server_options="backup"))))) == {"s"}
    assert ids(one.wanted) == {"b": 13}
    assert list(one.problems) == [said]
    assert one.take(first.with_entry("s", Entry((replace(A, haproxy_server_options="backup"),)))) == {"s"}
    assert ids(one.wanted) == {"a": 12}
    assert one.problems == ()


def test_a_service_that_is_refused_is_left_out_and_what_a_restart_must_know_of_it_is_kept() -> None:
    remembered: list[tuple[str, Entry, dict[str, int]]] = []
    events: list[Event] = []

    def keep(service: str, entry: Entry, numbers: Mapping[str, int]) -> None:
        remembered.append((service, entry, dict(numbers)))

    one = Drafts(Names(silent), {}, keep, events.append)
    assert one.leave([("s", "no")]) == frozenset()
    first = picture(s=(A,), t=(B,))
    one.take(first)
    assert ("s", Entry((A,)), {"a_10.0.0.1:80": 12}) in remembered
    assert one.leave([("x", "no")]) == frozenset()
    assert one.leave([("s", "no")]) == {"s"}
    assert one.wanted.stanzas.keys() == {"t"}
    assert list(map(str, events)) == list(one.problems)
    assert "the service is left out: no" in one.problems[0]
    one.take(first.with_entry("s", Entry((A, B))))
    assert remembered[-1] == ("s", Entry((A, B)), {"a_10.0.0.1:80": 12})
    assert one.wanted.stanzas.keys() == {"t"}


def test_of_the_servers_that_are_gone_the_newest_keep_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FORGOTTEN", 2)
    known: dict[str, int] = {}

    def keep(service: str, entry: Entry, numbers: Mapping[str, int]) -> None:
        known.clear()
        known.update(numbers)

    one = Drafts(Names(silent), {}, keep, silent)
    each = [Instance("10.0.0.1", port, id=port) for port in range(1, 7)]
    first = picture(s=tuple(each[:2]))
    one.take(first)
    for instances in (each[1:3], each[2:4], each[3:5], [each[1], *each[4:6]]):
        one.take(first.with_entry("s", Entry(tuple(instances))))
    assert sorted(known.values()) == [2, 3, 4, 5, 6]
    one.take(first.with_entry("s", Entry((each[5],))))
    assert sorted(known.values()) == [2, 5, 6]


def test_a_service_that_is_not_haproxys_has_no_past() -> None:
    history = History()
    one = Drafts(Names(silent), {}, remember, silent, history)
    off = OWN.model_copy(update={"haproxy": OWN.haproxy.model_copy(update={"disabled": True})})
    catalog = Catalog(MappingProxyType({"s": Entry((A,)), "t": Entry((B,))}))
    one.take(Picture(LAYOUT, MappingProxyType({"s": OWN, "t": off, "u": OWN}), catalog))
    assert history.past.content(0).keys() == {"s"}
