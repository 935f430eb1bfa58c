from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from dockstack.errors import ConfigurationError
from dockstack.model import Catalog, Entry, Instance
from dockstack.settings.synapse import HaproxySettings, SynapseService
from dockstack.synapse.haproxy.document import Layout, Picture, draft, settled, static_names
from dockstack.synapse.haproxy.effects import after, loaded
from dockstack.synapse.haproxy.model import Add, Maintain, SetWeight, capabilities
from dockstack.synapse.haproxy.plan import plan
from dockstack.synapse.haproxy.render import mark, render
from dockstack.synapse.haproxy.text import parse
from tests.synapse.haproxy import worlds

NEW = capabilities((2, 8))


def top(**more: Any) -> HaproxySettings:
    return HaproxySettings.model_validate({"global": ["maxconn 7"], "defaults": ["mode http"], **more})


def service(port: int | None = 80, **more: Any) -> SynapseService:
    section = {"port": port, "listen": ["mode http"], **more}
    return SynapseService.model_validate({"discovery": {"method": "base"}, "haproxy": section})


def layout(**more: Any) -> Layout:
    return Layout(top(**more), ("hard-stop-after 24h",), "host")


def test_a_frame_has_a_stanza_for_each_service_and_our_lines() -> None:
    frame = layout().frame({"a": service(), "b": service(81), "c": service(disabled=True)})
    assert list(frame.empty.stanzas) == ["a", "b"]
    assert "hard-stop-after 24h" in frame.empty.head[0].lines
    assert "server" not in render(frame.empty).text.replace("synapse", "")


def test_what_has_not_changed_is_taken_from_the_frame_before() -> None:
    one, services = layout(), {"a": service(), "b": service(81)}
    before = one.frame(services)
    frame = one.frame({**services, "b": service(82), "c": service(83)}, before)
    assert frame.skeletons["a"] is before.skeletons["a"]
    assert frame.skeletons["b"] != before.skeletons["b"]
    assert list(frame.empty.stanzas) == ["a", "b", "c"]
    other = replace(one, host="other").frame(services, before)
    assert other.rules["a"] != before.rules["a"]


def test_lines_that_haproxy_no_longer_takes_are_all_told() -> None:
    services = {"a": service(listen=["mode http", "reqadd X"]), "b": service(81, listen=["mode http", "block if x"])}
    with pytest.raises(ConfigurationError) as error:
        layout().frame(services)
    assert len(error.value.problems) == 2


def test_a_look_at_one_service() -> None:
    assert layout().look("a", service(80)).binds == layout().look("b", service(80)).binds != frozenset()
    assert layout().look("a", service(81)).binds.isdisjoint(layout().look("b", service(80)).binds)
    assert layout().look("a", service(80, disabled=True)).binds == frozenset()
    assert "reqadd" in layout().look("a", service(listen=["mode http", "reqadd X"])).problems[0]


def test_a_draft_leaves_out_what_is_refused_and_says_what_cannot_be_served() -> None:
    frame = layout().frame({"a": service()})
    entry = Entry((Instance("10.0.0.1", 1, "x"), Instance("10.0.0.2", 2, "y"), Instance("name", 3, "z")))
    drafted = draft(frame, "a", entry, {}, {})
    assert [one.name for one in sorted(drafted.stanza.backend.servers, key=lambda one: one.name)] == [
        "x_10.0.0.1:1",
        "y_10.0.0.2:2",
    ]
    assert "cannot be resolved" in drafted.problems[0]
    again = draft(frame, "a", entry, {"name": "10.0.0.3"}, {}, refused=[drafted.stanza.backend.servers[0]])
    assert len(again.stanza.backend.servers) == 2
    assert again.problems == ()


def test_a_picture_shares_what_does_not_change() -> None:
    picture = Picture(layout(), MappingProxyType({"a": service()}), Catalog())
    other = picture.with_entry("a", Entry(()))
    assert other.services is picture.services
    assert other.catalog.entries == {"a": Entry(())}
    assert picture.with_service("b", service(81)).catalog is picture.catalog


# -- the file that equals what runs


def served(*names: str, lines: tuple[str, ...] = ("mode http",)) -> Any:
    servers = [worlds.server(name, at + 1, host=f"10.0.0.{at + 1}") for at, name in enumerate(names)]
    return worlds.document(worlds.stanza("a", servers, lines))


def test_a_server_that_was_taken_is_in_the_file_and_one_that_was_refused_is_not() -> None:
    structure, wanted = served("one"), served("one", "two", "three")
    two = wanted.stanzas["a"].backend.servers[1]
    running = after(loaded(structure, NEW), [Add("a", two)])
    names = [one.name for one in settled(wanted, structure, running).stanzas["a"].backend.servers]
    assert names == ["one", "two"]


def test_a_change_that_was_not_taken_leaves_the_old_line() -> None:
    structure = served("one", "two")
    two = structure.stanzas["a"].backend.servers[1]
    changed = worlds.stanza("a", [structure.stanzas["a"].backend.servers[0], replace(two, options="check inter 7s")])
    wanted = worlds.document(changed)
    running = loaded(structure, NEW)
    assert settled(wanted, structure, running).stanzas["a"].backend.servers[1] == two
    running = after(running, [Maintain("a", "two")])
    assert settled(wanted, structure, running).stanzas["a"].backend.servers[1] == two


def test_a_weight_that_was_taken_is_in_the_file() -> None:
    structure = served("one", "two")
    servers = structure.stanzas["a"].backend.servers
    wanted = worlds.document(worlds.stanza("a", [replace(servers[0], weight=9), servers[1]]))
    running = loaded(structure, NEW)
    assert settled(wanted, structure, running).stanzas["a"].backend.servers[0].weight is None
    running = after(running, [SetWeight("a", "one", 9)])
    assert settled(wanted, structure, running).stanzas["a"].backend.servers[0].weight == 9


def test_the_structure_stays_that_which_is_loaded() -> None:
    structure, wanted = served("one"), served("one", lines=("mode http", "balance leastconn"))
    wanted = wanted.with_stanzas(worlds.stanza("new", [worlds.server("n", 1)]))
    assert settled(wanted, structure, loaded(structure, NEW)) == structure


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(worlds.worlds(worlds.PLAIN_OPTIONS))
def test_a_file_after_commands_alone_serves_what_is_wanted(world: worlds.World) -> None:
    structure = world.running.loaded
    way = plan(world.running, world.wanted)
    assume(structure is not None and not way.reload_reasons)
    assert structure is not None
    running = after(world.running, way.steps)
    file = settled(world.wanted, structure, running)
    assert worlds.differences(loaded(file, running.capabilities), world.wanted) == []


@given(worlds.worlds())
def test_a_file_before_a_reload_has_the_old_structure_and_reads_back(world: worlds.World) -> None:
    structure = world.running.loaded
    assume(structure is not None)
    assert structure is not None
    running = after(world.running, plan(world.running, world.wanted).steps)
    file = settled(world.wanted, structure, running)
    assert mark(file) == mark(structure)
    assert parse(render(file).text) == file


def test_static_names_by_backend() -> None:
    lines = ("mode http", "server own 127.0.0.1:1")
    assert static_names(served("one", lines=lines), None) == {"a": frozenset({"own"})}
    assert static_names(served("one")) == {}
    assert plan(loaded(served("one"), NEW), served("one")).reload_reasons == ()
