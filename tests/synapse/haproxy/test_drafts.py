"""The wanted document follows the picture, and a server keeps its id over everything that forgets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dockstack.events import Event
from dockstack.model import Catalog, Entry, Instance
from dockstack.settings.synapse import SynapseSettings
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.haproxy.drafts import Drafts
from dockstack.synapse.haproxy.effects import loaded
from dockstack.synapse.haproxy.model import Document, capabilities
from dockstack.synapse.names import Names

A, B = Instance("10.0.0.1", 80, "a", id=12), Instance("10.0.0.2", 80, "b", id=13)


def picture(**services: tuple[Instance, ...]) -> Picture:
    plain: dict[str, Any] = {
        "haproxy": {"global": [], "defaults": [], "config_file_path": "/x", "socket_file_path": "/y"},
        "services": {name: {"discovery": {"method": "base"}, "haproxy": {"listen": ["mode http"]}} for name in "st"},
    }
    settings = SynapseSettings.model_validate(plain)
    assert settings.haproxy is not None
    entries = {name: Entry(instances) for name, instances in services.items()}
    return Picture(Layout(settings.haproxy, (), "h"), settings.services, Catalog(MappingProxyType(entries)))


def drafts(ids: Mapping[str, Mapping[str, int]] | None = None) -> tuple[Drafts, list[str]]:
    told: list[str] = []

    def emit(event: Event) -> None:
        told.append(str(event))

    return Drafts(Names(emit), ids or {}, lambda *_: None, emit), told


def ids(document: Document, service: str = "s") -> dict[str, int | None]:
    return {one.name.partition("_")[0]: one.id for one in document.stanzas[service].backend.servers}


def test_only_what_has_changed_is_drafted_again() -> None:
    one, _ = drafts()
    first = picture(s=(A,), t=(B,))
    assert one.take(first) == {"s", "t"}
    before = one.wanted.stanzas["t"]
    assert one.take(first.with_entry("s", Entry((A, B)))) == {"s"}
    assert one.wanted.stanzas["t"] is before
    assert ids(one.wanted) == {"a": 12, "b": 13}


def test_a_server_keeps_the_id_that_it_has_in_the_file_or_in_the_process() -> None:
    """Both killed a moment after a change: the snapshot has not heard of it, and the registry has another number."""
    last, _ = drafts()
    last.take(picture(s=(A,), t=(B,)))
    served = last.wanted
    moved = tuple(Instance(one.host, one.port, one.name, id=number) for one, number in ((A, 30), (B, 12)))
    for recall in (True, False):
        one, _ = drafts()
        one.take(picture(s=moved, t=(B,)))
        assert ids(one.wanted) == {"a": 30, "b": 12}
        running = loaded(served, capabilities((2, 8)))
        assert (one.recall(served) if recall else one.learn(running)) == {"s"}
        assert ids(one.wanted)["a"] == 12
        assert ids(one.wanted)["b"] not in (12, None)
        assert (one.recall(served) if recall else one.learn(running)) == set()


def test_an_id_that_was_saved_gives_way_to_the_one_that_was_served() -> None:
    one, _ = drafts({"s": {"a_10.0.0.1:80": 5, "gone": 12}})
    one.take(picture(s=(A,)))
    assert ids(one.wanted) == {"a": 5}
    served, _ = drafts()
    served.take(picture(s=(A,)))
    assert one.recall(served.wanted) == {"s"}
    assert ids(one.wanted) == {"a": 12}
