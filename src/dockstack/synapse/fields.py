"""An instance as SmartStack's files have it: which keys, in which order, for each way of discovery. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dockstack.model import Instance
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.select import default_instances, port_override

Fields = Mapping[str, Any]

_ALL = ("name", "host", "port", "id", "weight", "haproxy_server_options", "labels")
_RESOLVED = ("host", "port", "name", "labels")
_PLAIN = ("name", "host", "port")
_FORMS: Mapping[str, tuple[str, ...]] = {
    "dns": _RESOLVED,
    "zookeeper_dns": _RESOLVED,
    "zookeeper_dns_poll": _RESOLVED,
    "docker": _PLAIN,
    "ec2tag": _PLAIN,
    "awstag": _PLAIN,
    "marathon": _PLAIN,
}


def described(own: SynapseService, instances: Iterable[Instance]) -> tuple[Fields, ...]:
    """The instances of a service as maps, a key that has no value as None; default servers as they were given.

    Where a service has several watchers of different kinds, all have all keys.
    """
    given = _given(own)
    forms = {_FORMS.get(one.method, _ALL) for one in own.watchers.values()}
    keys = forms.pop() if len(forms) == 1 else _ALL
    return tuple(given.get(one) or _fields(one, keys) for one in instances)


def _given(own: SynapseService) -> Mapping[Instance, Fields]:
    found: dict[Instance, Fields] = {}
    port = port_override(own)
    for instance, server in zip(default_instances(own.default_servers), own.default_servers, strict=True):
        found[instance] = server.as_given
        if port is not None:
            found.setdefault(replace(instance, port=port), {**server.as_given, "port": port})
    return found


def _fields(instance: Instance, keys: tuple[str, ...]) -> Fields:
    found = {key: getattr(instance, key) for key in keys}
    if instance.labels is not None and "labels" in found:
        found["labels"] = json.loads(instance.labels)
    return found
