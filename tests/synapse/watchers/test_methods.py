"""What each discovery method makes of its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dockstack import plugins
from dockstack.errors import ConfigurationError
from dockstack.events import Event
from dockstack.model import Address
from dockstack.registry import Locator, Registry, Snapshot, Tls
from dockstack.registry.codec import NerveDecoder, ServersetDecoder
from dockstack.settings.discovery import METHODS, BaseDiscovery, FileDiscovery, ZookeeperDiscovery
from dockstack.synapse.watchers import base, file, zookeeper
from dockstack.synapse.watchers._registry import RegistryWatcher


class NoSessions:
    async def get(self, locator: Locator) -> Registry:
        raise AssertionError("nothing is opened before it is followed")


def silent(event: Event) -> None:
    raise AssertionError(str(event))


def settings(**more: Any) -> ZookeeperDiscovery:
    return ZookeeperDiscovery.model_validate({"method": "zookeeper", "hosts": ["h1"], "path": "/svc", **more})


def made(found: object) -> RegistryWatcher:
    assert isinstance(found, RegistryWatcher)
    return found


def built(**more: Any) -> RegistryWatcher:
    return made(zookeeper.build(settings(**more), NoSessions(), silent))


async def test_base_finds_nothing_once() -> None:
    watcher = base.build(BaseDiscovery(method="base"), NoSessions(), silent)
    assert [snapshot async for snapshot in watcher.follow()] == [Snapshot(())]


def test_every_method_has_its_module() -> None:
    assert set(METHODS) - {"multi"} <= set(plugins.known("watchers"))
    assert plugins.load("watchers", "zookeeper", "here") is zookeeper.build


def test_a_zookeeper_watcher() -> None:
    found = built(path="/svc/", decode={"method": "serverset", "endpoint_name": "x"}, discovery_jitter=5)
    assert (found.path, found.config_path, found.decoder, found.pause) == ("/svc", "/svc", ServersetDecoder("x"), 5)
    assert built().decoder == NerveDecoder()
    assert built(generator_config_path="disabled").config_path is None


@pytest.mark.parametrize(
    ("more", "locator"),
    [
        ({}, Locator("zookeeper", (Address("h1", 2181),))),
        ({"hosts": ["h2:2182", "h1"]}, Locator("zookeeper", (Address("h1", 2181), Address("h2", 2182)))),
        ({"hosts": ["h2,h1/base"]}, Locator("zookeeper", (Address("h1", 2181), Address("h2", 2181)), "/base")),
        ({"auth": "me:a:b"}, Locator("zookeeper", (Address("h1", 2181),), username="me", password="a:b")),
        ({"tls": {"verify": False}}, Locator("zookeeper", (Address("h1", 2181),), tls=Tls(verify=False))),
        ({"session_timeout": 4}, Locator("zookeeper", (Address("h1", 2181),), session_timeout=4.0)),
    ],
)
def test_which_ensemble(more: dict[str, Any], locator: Locator) -> None:
    assert built(**more).locator == locator


@pytest.mark.parametrize(
    ("more", "named"), [({"hosts": ["h1:99999"]}, "hosts"), ({"auth": "me"}, "auth"), ({"auth": ":x"}, "auth")]
)
def test_what_cannot_be_read_is_refused(more: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        built(**more)


@pytest.mark.parametrize("jitter", [121, -1])
def test_a_jitter_out_of_range_is_ignored_with_a_warning(jitter: float) -> None:
    events: list[Event] = []
    found = made(zookeeper.build(settings(discovery_jitter=jitter), NoSessions(), events.append))
    assert (found.pause, len(events)) == (0, 1)
    assert built(discovery_jitter=120).pause == 120


def test_a_file_watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for directory in (str(tmp_path / "d"), "d"):
        own = FileDiscovery(method="file", directory=directory, path="svc/")
        found = made(file.build(own, NoSessions(), silent))
        assert (found.locator, found.path) == (Locator("file", root=str(tmp_path / "d")), "/svc")
