"""Where instances are announced and found: the ports, and the one way to open a registry.

An adapter is one module here that offers `open(locator, emit)`, an async context manager yielding a `Registry`.
"""

from __future__ import annotations

import enum
import importlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, cast, runtime_checkable

from dockstack.events import Emit
from dockstack.model import Address, Instance


class NodeKind(enum.Enum):
    """ZooKeeper's node kinds by nerve's names; other registries treat the persistent ones as theirs allow."""

    EPHEMERAL_SEQUENTIAL = "ephemeral_sequential"
    EPHEMERAL = "ephemeral"
    PERSISTENT_SEQUENTIAL = "persistent_sequential"
    PERSISTENT = "persistent"

    @property
    def sequential(self) -> bool:
        return self in (NodeKind.EPHEMERAL_SEQUENTIAL, NodeKind.PERSISTENT_SEQUENTIAL)

    @property
    def ephemeral(self) -> bool:
        return self in (NodeKind.EPHEMERAL_SEQUENTIAL, NodeKind.EPHEMERAL)


@dataclass(frozen=True, slots=True)
class Registration:
    """An instance to be written under `path` and kept alive.

    `key` names the service and the copy within this process: the same key again is an update, and equal values under
    two keys stay two nodes. The node's name begins with `instance.name`. `nulls` are the keys that the owner wrote as
    an explicit null (nerve keeps them). `ttl` (seconds) is how often a persistent node is written again.
    """

    key: str
    path: str
    instance: Instance
    kind: NodeKind = NodeKind.EPHEMERAL_SEQUENTIAL
    path_encoding: bool = False
    nulls: tuple[str, ...] = ()
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """Proof of a registration: the node that was written, and the session (or lock) that keeps it alive."""

    registration: Registration
    node: str
    session: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One successful read of a path: its instances by node name, its own data, and the nodes that were skipped.

    `spent`: for each request of the read its kind (`create_path`, `children`, `get`) and the seconds until its answer,
    where the registry tells them. `missing`: there is no such path, and none was made.
    """

    instances: tuple[Instance, ...]
    data: bytes = b""
    problems: tuple[str, ...] = ()
    spent: tuple[tuple[str, float], ...] = field(default=(), compare=False)
    missing: bool = field(default=False, compare=False)


class Decoder(Protocol):
    """How a node becomes an instance. A decoder compares equal to another that decodes alike."""

    def from_name(self, name: str) -> Instance | None:
        """The instance that the name alone carries, or None when the node's data must be read."""

    def from_data(self, name: str, data: bytes) -> Instance:
        """The instance in the node's data; raises ValueError with the reason when there is none."""


class Announcer(Protocol):
    """What nerve needs. Every call raises RegistryUnavailable within a deadline when the registry cannot be asked."""

    @property
    def reachable(self) -> bool:
        """Whether the registry, as far as this process knows, can be asked now. No I/O."""

    async def put(self, registration: Registration) -> Lease:
        """Writes the registration, or makes the one under the same key equal to it, without a moment of absence.

        A node of the same name that somebody else owns is taken over by writing our data (non-sequential kinds).
        RegistryRefused is raised only where the registry is as it was before.
        """

    async def remove(self, lease: Lease) -> None:
        """Deletes the node if it is still ours; what is gone already is fine."""

    def holds(self, lease: Lease) -> bool:
        """Whether the node is, as far as this process knows, still there and kept alive. No I/O."""

    async def lost(self, lease: Lease) -> None:
        """Returns as soon as `holds` is false for this lease: the session expired, or somebody deleted the node."""


class Discoverer(Protocol):
    """What synapse needs."""

    def watch(self, path: str, decoder: Decoder) -> AsyncIterator[Snapshot]:
        """The whole set at once, then again after every change; a path that does not exist is made, and is empty.

        While the registry cannot be asked the iterator is silent and keeps trying if it has a session to restore,
        or raises RegistryUnavailable; it never yields a set that was not read. Slow consumers get the newest state.
        """


@runtime_checkable
class Reader(Protocol):
    """What polling needs; not every registry has it."""

    async def read(self, path: str, decoder: Decoder) -> Snapshot:
        """The whole set as it is now, read once; a path that does not exist is empty, and is not made.

        Raises RegistryUnavailable within a deadline when the registry cannot be asked.
        """


class Registry(Announcer, Discoverer, Protocol):
    """One session with one registry, for all services of this process."""

    @property
    def state(self) -> str:
        """One line for the status page: `connected to HOST:PORT`, or since when and why not."""


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS towards a registry: PEM files; `verify` false accepts any certificate."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Locator:
    """Where a registry is and how to talk to it; equal locators share one session.

    `scheme` is the adapter's module name (memory, file, zookeeper, etcd). `root` is ZooKeeper's chroot or the
    directory of a file registry. `session_timeout` in seconds.
    """

    scheme: str
    hosts: tuple[Address, ...] = ()
    root: str = ""
    username: str | None = None
    password: str | None = None
    tls: Tls | None = None
    session_timeout: float = 10.0

    def __str__(self) -> str:
        return f"{self.scheme}://{','.join(map(str, self.hosts))}{self.root}"


class _Adapter(Protocol):
    def open(self, locator: Locator, emit: Emit) -> AbstractAsyncContextManager[Registry]: ...


def open_registry(locator: Locator, emit: Emit) -> AbstractAsyncContextManager[Registry]:
    """The registry behind a locator, as a context manager: entering does not wait for a server, leaving is bounded.

    The adapter's module is imported here, by need.
    """
    return load(locator.scheme).open(locator, emit)


def load(scheme: str) -> _Adapter:
    """Imports the adapter, which takes a while; who has no time for that when it is opened does it before."""
    return cast(_Adapter, importlib.import_module(f"dockstack.registry.{scheme}"))
