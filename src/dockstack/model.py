"""The nouns that every stage shares: an address, an announced copy of a service, and the picture of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import compress
from operator import is_, is_not
from types import MappingProxyType
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A host (name or IP literal, without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


NO_PORT = 0
"""The port of an instance whose source knows hosts only: the service's settings must say which it is."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One announced copy of a service.

    `port` keeps the type that the registry has (nerve writes a quoted port as text). `labels` is the compact JSON text
    of the labels map: as text, `1`, `true` and `"1"` stay three different values and the owner's order is kept.
    `id` is the number that the registry gave (ZooKeeper's sequence, etcd's create revision).
    """

    host: str
    port: int | str
    name: str | None = None
    id: int | None = None
    weight: int | float | str | None = None
    haproxy_server_options: str | None = None
    labels: str | None = None

    @property
    def address(self) -> Address:
        """The host and the port as a number; raises ValueError where the port is no number."""
        return Address(self.host, int(self.port))


@dataclass(frozen=True, slots=True)
class Entry:
    """What a service's clients can be given now: its instances, in a stable order."""

    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The immutable picture of the world: service name → entry. A service that is not in it was never heard of."""

    entries: Mapping[str, Entry] = field(default_factory=lambda: MappingProxyType({}))

    def with_entry(self, service: str, entry: Entry) -> Catalog:
        """A catalog in which `service` has this entry; the other entries are the same objects."""
        return Catalog(patched(self.entries, {service: entry}))

    def without(self, services: frozenset[str]) -> Catalog:
        """A catalog that has never heard of these services."""
        return Catalog(MappingProxyType({k: v for k, v in self.entries.items() if k not in services}))

    def changed_since(self, before: Catalog) -> tuple[str, ...]:
        """Names of the services whose entry is new, different or gone, in this catalog's order, the gone ones last."""
        old = before.entries
        changed = [name for name in moved(self.entries, old) if old.get(name) != self.entries[name]]
        return (*changed, *(name for name in old if name not in self.entries))


def patched(mapping: Mapping[K, V], changes: Mapping[K, V]) -> Mapping[K, V]:
    """The mapping with other values for some keys; a new key stands at the end.

    A large one is copied in one piece, where unpacking would look up each key.
    """
    plain = mapping if isinstance(mapping, MappingProxyType | dict) else dict(mapping)
    return MappingProxyType(plain | {**changes})


def moved(now: Mapping[K, V], before: Mapping[K, V]) -> list[K]:
    """The keys whose value is not the same object as before, or is new, in the order of `now`."""
    if len(now) == len(before) and all(map(is_, now, before)):
        return list(compress(now, map(is_not, now.values(), before.values())))
    return [key for key, value in now.items() if before.get(key) is not value]
