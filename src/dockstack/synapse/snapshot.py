"""The picture of the world and the server ids on disk: with them synapse starts while the registry is down.

One JSON file in the state directory, written behind every change. A service comes back only where its discovery is
the same: another configuration with the same service name does not inherit foreign servers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dockstack.errors import DockStackError
from dockstack.model import Entry, Instance
from dockstack.settings.synapse import SynapseService

FILE = "synapse-snapshot.json"
VERSION = 1

_FIELDS = tuple(field.name for field in fields(Instance))


class SnapshotUnreadable(DockStackError):
    """There is a file, and it is none of ours."""


@dataclass(frozen=True, slots=True)
class Saved:
    """One service as it was: the fingerprint of its discovery, its instances, and the ids of its servers by name."""

    fingerprint: str
    entry: Entry
    ids: Mapping[str, int]


def fingerprint(service: SynapseService) -> str:
    """Equal for services that look for the same thing in the same place."""
    told = json.dumps(service.discovery.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def encode_one(name: str, saved: Saved) -> str:
    """One service as a member of the file's JSON object."""
    instances = [
        {key: value for key in _FIELDS if (value := getattr(instance, key)) is not None}
        for instance in saved.entry.instances
    ]
    body = {"fingerprint": saved.fingerprint, "instances": instances, "ids": dict(saved.ids)}
    return f"{json.dumps(name)}:{json.dumps(body, separators=(',', ':'))}"


def encode(members: Mapping[str, str]) -> bytes:
    """The file that holds these members, as `encode_one` wrote them."""
    joined = ",\n".join(members.values())
    return f'{{"version":{VERSION},"services":{{\n{joined}\n}}}}\n'.encode()


def load(path: Path) -> Mapping[str, Saved]:
    """What was saved, by service; nothing when there is no file. Raises SnapshotUnreadable with the reason."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SnapshotUnreadable(f"{path}: {error.strerror}") from None
    try:
        return decode(data)
    except ValueError as error:
        raise SnapshotUnreadable(f"{path}: {error}") from None


def decode(data: bytes) -> Mapping[str, Saved]:
    """The services in the file's bytes. Raises ValueError with the reason when they are not what we write."""
    whole = json.loads(data)
    if not isinstance(whole, dict) or whole.get("version") != VERSION:
        raise ValueError(f"it is not a snapshot in version {VERSION}")
    services = whole.get("services")
    if not isinstance(services, dict):
        raise ValueError("it has no services")
    return {name: _saved(name, body) for name, body in services.items()}


def _saved(name: str, body: Any) -> Saved:
    try:
        instances = tuple(_instance(one) for one in body["instances"])
        ids = body["ids"]
        if not all(type(number) is int and number > 0 for number in ids.values()):
            raise ValueError("an id that is no number")
        return Saved(str(body["fingerprint"]), Entry(instances), dict(ids))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"service {name} is damaged: {error!r}") from None


def _instance(one: Mapping[str, Any]) -> Instance:
    unknown = [key for key in one if key not in _FIELDS]
    if unknown or not isinstance(one["host"], str) or not isinstance(one["port"], int | str):
        raise ValueError(f"no instance: {str(one)[:80]}")
    return Instance(**one)
