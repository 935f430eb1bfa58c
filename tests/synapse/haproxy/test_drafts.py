"""Servers that have left, in the wanted document."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from dockstack.events import Event
from dockstack.model import Catalog, Entry, Instance
from dockstack.settings.synapse import HaproxySettings, SynapseService
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.haproxy.drafts import Drafts
from dockstack.synapse.haproxy.past import Past
from dockstack.synapse.names import Names
from tests.waiting import eventually

LAYOUT = Layout(HaproxySettings.model_validate({"global": [], "defaults": []}), (), "host")
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
