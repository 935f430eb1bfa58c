"""The recorded cases, rendered without any server: znodes are decoded, selected, placed and written by pure functions.

What SmartStack's synapse wrote for the same input is compared by meaning, step by step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from dockstack.model import Entry, Instance
from dockstack.registry.codec import Decoding
from dockstack.settings.discovery import ZookeeperDiscovery
from dockstack.settings.synapse import SynapseService, SynapseSettings
from dockstack.synapse.generator import overlay
from dockstack.synapse.haproxy.document import frame
from dockstack.synapse.haproxy.model import Document
from dockstack.synapse.haproxy.place import place, server_name
from dockstack.synapse.haproxy.render import render
from dockstack.synapse.haproxy.text import parse
from dockstack.synapse.select import select
from dockstack.synapse.watchers._registry import decoder
from tests.golden.compare import differences, ids

CASES = Path(__file__).parent
METHODS = {"base", "zookeeper", "file"}


def text_of(path: Path) -> str:
    return path.read_text().replace("@ZK@", "127.0.0.1:2181").replace("@RUN@", "/run/case")


def settings_of(case: Path) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load(text_of(case / "synapse.yaml"))
    for path in sorted(case.glob("services/*")):
        settings["services"][path.stem] = yaml.safe_load(text_of(path))
    return settings


def is_pure(case: Path) -> bool:
    if (case / "error.txt").exists() or not (case / "synapse.yaml").exists():
        return False
    services = settings_of(case)["services"].values()
    return all(one["discovery"]["method"] in METHODS and "discovery_multi" not in one for one in services)


PURE = sorted(path.name for path in CASES.iterdir() if path.is_dir() and is_pure(path))


@dataclass
class World:
    """The znodes, and what synapse has kept from step to step."""

    settings: SynapseSettings
    znodes: dict[str, str]
    seen: dict[str, dict[str, Instance]]
    known: dict[str, dict[str, int]]
    entries: dict[str, Entry] = field(default_factory=dict)
    configs: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def document(self) -> Document:
        top = self.settings.haproxy
        assert top is not None
        services = {name: self._live(name, own) for name, own in self.settings.services.items()}
        found = frame(top, services, (), "host")
        stanzas = {}
        for name, skeleton in found.skeletons.items():
            entry = self.entries[name]
            there = {server_name(one) for one in entry.instances}
            departed = [one for key, one in self.seen[name].items() if key not in there] if top.state_file_path else []
            placed = place(found.rules[name], entry, {}, self.known[name], departed)
            self.problems += placed.problems
            self.known[name] = {one.name: one.id for one in placed.servers if one.id is not None}
            self.seen[name] |= {server_name(one): one for one in entry.instances}
            stanzas[name] = skeleton.with_servers(placed.servers)
        return replace(found.empty, stanzas=MappingProxyType(stanzas))

    def _live(self, name: str, own: SynapseService) -> SynapseService:
        discovery = own.discovery
        nodes: dict[str, bytes] = {}
        data = b""
        if isinstance(discovery, ZookeeperDiscovery):
            below = f"{discovery.path.rstrip('/')}/"
            nodes = {
                path.removeprefix(below): text.encode()
                for path, text in self.znodes.items()
                if path.startswith(below) and "/" not in path.removeprefix(below)
            }
            data = self.znodes.get(discovery.path, "").encode()
            decoding = Decoding(discovery.path, decoder(discovery.decode))
        else:
            decoding = Decoding("", decoder(ZookeeperDiscovery.model_fields["decode"].default))
        chosen = select(name, own, decoding.snapshot(nodes, data), self.entries.get(name))
        self.entries[name] = chosen.entry
        self.problems += chosen.problems
        if data:
            self.configs[name] = data
        return overlay(name, own, self.configs.get(name, b"")).service


def world_of(case: Path) -> World:
    settings = SynapseSettings.model_validate(settings_of(case))
    state: Mapping[str, Mapping[str, Any]] = {}
    if (case / "state.json").exists():
        state = json.loads((case / "state.json").read_text())
    servers = {
        name: {key: one for key, one in state.get(name, {}).items() if "host" in one} for name in settings.services
    }
    return World(
        settings=settings,
        znodes={one["path"]: one["data"] for one in json.loads((case / "zk.json").read_text())["znodes"]},
        seen={
            name: {key: Instance(one["host"], one["port"], one["name"], one["id"]) for key, one in found.items()}
            for name, found in servers.items()
        },
        known={name: {key: one["haproxy_server_id"] for key, one in found.items()} for name, found in servers.items()},
    )


def test_there_are_cases() -> None:
    assert len(PURE) >= 18


@pytest.mark.parametrize("name", PURE)
def test_the_file_means_what_smartstack_wrote(name: str) -> None:
    case = CASES / name
    world = world_of(case)
    text = (case / "synapse.yaml").read_text() + "".join(path.read_text() for path in case.glob("services/*"))
    exact = "backend_order: asc" in text or "backend_order" in (case / "zk.json").read_text()
    fixed = json.loads((case / "fixed_ids.json").read_text()) if (case / "fixed_ids.json").exists() else {}
    before: dict[str, dict[str, int | None]] = {}
    steps = [{"put": [], "delete": []}, *json.loads((case / "zk.json").read_text()).get("steps", [])]
    for number, step in enumerate(steps):
        world.znodes |= {one["path"]: one["data"] for one in step["put"]}
        for path in step["delete"]:
            del world.znodes[path]
        document = world.document()
        got = render(document).text
        expected = text_of(case / (f"haproxy.step{number}.cfg" if number else "haproxy.cfg"))
        assert differences(expected, got, exact) == []
        assert parse(got) == document
        now = ids(got)
        for section, servers in now.items():
            stayed = before.get(section, {})
            assert {one: stayed[one] for one in servers.keys() & stayed.keys()} == {
                one: servers[one] for one in servers.keys() & stayed.keys()
            }
            wanted = fixed.get(section, {})
            assert {one: servers[one] for one in servers.keys() & wanted.keys()} == {
                one: wanted[one] for one in servers.keys() & wanted.keys()
            }
        before = now
    assert world.problems == []
