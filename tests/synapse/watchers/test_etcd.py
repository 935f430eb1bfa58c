"""What the method `etcd` makes of its settings."""

from __future__ import annotations

from typing import Any

import pytest

from dockstack.errors import ConfigurationError
from dockstack.events import Event
from dockstack.model import Address
from dockstack.registry import Locator, Registry, Tls
from dockstack.registry.codec import ServersetDecoder
from dockstack.settings.discovery import EtcdDiscovery
from dockstack.synapse.watchers import etcd
from dockstack.synapse.watchers._registry import RegistryWatcher


class NoSessions:
    async def get(self, locator: Locator) -> Registry:
        raise AssertionError("nothing is opened before it is followed")


def silent(event: Event) -> None:
    raise AssertionError(str(event))


def built(**more: Any) -> RegistryWatcher:
    settings = EtcdDiscovery.model_validate({"method": "etcd", "hosts": ["h1"], "path": "/svc/", **more})
    found = etcd.build(settings, NoSessions(), silent)
    assert isinstance(found, RegistryWatcher)
    return found


def test_a_watcher() -> None:
    found = built(decode={"method": "serverset", "endpoint_name": "x"})
    assert (found.path, found.config_path, found.decoder, found.pause) == ("/svc", "/svc", ServersetDecoder("x"), 0)
    assert built(generator_config_path="disabled").config_path is None


@pytest.mark.parametrize(
    ("keys", "locator"),
    [
        ({}, Locator("etcd", (Address("h1", 2379),))),
        ({"hosts": "h2, h1:1", "port": "3"}, Locator("etcd", (Address("h1", 1), Address("h2", 3)))),
        ({"auth": "me:a:b"}, Locator("etcd", (Address("h1", 2379),), username="me", password="a:b")),
        ({"tls": {"verify": False}}, Locator("etcd", (Address("h1", 2379),), tls=Tls(verify=False))),
    ],
)
def test_where_it_looks(keys: dict[str, Any], locator: Locator) -> None:
    assert built(**keys).locator == locator


@pytest.mark.parametrize(
    ("keys", "words"),
    [({"hosts": ["h:0"]}, "port"), ({"hosts": ["h/base"]}, "into `path`"), ({"auth": "me"}, "USER:PASSWORD")],
)
def test_what_cannot_be_read_is_named(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        built(**keys)
