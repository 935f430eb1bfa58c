"""A registry inside the process, for tests and dry runs."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit
from dockstack.registry import Decoder, Lease, Locator, NodeKind, Registration, Registry, Snapshot
from dockstack.registry.codec import Decoding, encode, node_prefix
from dockstack.registry.url import fold
from dockstack.runtime.latest import Latest


def open(locator: Locator, emit: Emit) -> AbstractAsyncContextManager[Registry]:
    """A session in a fresh world of its own; the locator says nothing that matters here."""
    return World().open(emit)


@dataclass(slots=True)
class _Node:
    data: bytes
    kind: NodeKind
    session: int
    key: str


@dataclass(slots=True)
class _Path:
    data: bytes = b""
    nodes: dict[str, _Node] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    changed: Latest[None] = field(default_factory=Latest)


class World:
    """What all sessions of one memory registry see, and the faults that a test can make."""

    def __init__(self) -> None:
        self._paths: dict[str, _Path] = {}
        self._live: set[int] = set()
        self._numbers = itertools.count(1)
        self._up: Latest[bool] = Latest()
        self._up.put(True)

    @asynccontextmanager
    async def open(self, emit: Emit) -> AsyncIterator[Registry]:
        """A session of its own; its ephemeral nodes go when the context ends, or at `heal` if the world is broken."""
        session = _Session(self)
        try:
            yield session
        finally:
            self._live.discard(session.number)
            self._sweep()

    def break_(self) -> None:
        """From now on nothing can be asked."""
        self._up.put(False)

    def heal(self) -> None:
        """Everything can be asked again; the nodes are those that were there, but for closed sessions' ephemerals."""
        self._up.put(True)
        self._sweep()

    def expire(self, registry: Registry | None = None) -> None:
        """Ends one session (all of them without an argument) as a server does: their ephemeral nodes are gone."""
        if isinstance(registry, _Session):
            self._live.discard(registry.number)
        else:
            self._live.clear()
        self._sweep()

    def delete(self, path: str, name: str) -> None:
        """Removes a node as somebody else would; KeyError where there is none."""
        place = self._path(path)
        del place.nodes[name]
        place.changed.put(None)

    def write(self, path: str, name: str, data: bytes) -> None:
        """Writes a persistent node as somebody else would."""
        self._store(path, name, _Node(data, NodeKind.PERSISTENT, 0, ""))

    def set_data(self, path: str, data: bytes) -> None:
        """Writes the data of the path itself."""
        place = self._path(path)
        place.data = data
        place.changed.put(None)

    def nodes(self, path: str) -> dict[str, bytes]:
        """The path's nodes and their data."""
        return {name: node.data for name, node in self._path(path).nodes.items()}

    @property
    def _reachable(self) -> bool:
        return self._up.peek() is True

    def _path(self, path: str) -> _Path:
        folded = fold(path)
        if folded not in self._paths:
            self._paths[folded] = _Path()
            self._paths[folded].changed.put(None)
        return self._paths[folded]

    def _store(self, path: str, name: str, node: _Node) -> None:
        place = self._path(path)
        place.nodes[name] = node
        place.changed.put(None)

    def _sweep(self) -> None:
        """Drops the ephemeral nodes of ended sessions, which a world that is out of reach does only when healed."""
        if not self._reachable:
            return
        for place in self._paths.values():
            gone = [
                name for name, node in place.nodes.items() if node.kind.ephemeral and node.session not in self._live
            ]
            for name in gone:
                del place.nodes[name]
            if gone:
                place.changed.put(None)

    async def _until_reachable(self) -> None:
        version, up = 0, False
        while not up:
            version, up = await self._up.after(version)

    def _begin_session(self) -> int:
        number = next(self._numbers)
        self._live.add(number)
        return number


class _Session:
    def __init__(self, world: World) -> None:
        self._world = world
        self._number = world._begin_session()
        self._leases: dict[str, Lease] = {}

    @property
    def number(self) -> int:
        return self._number

    @property
    def state(self) -> str:
        return "connected to memory" if self._world._reachable else "memory is out of reach"

    @property
    def reachable(self) -> bool:
        return self._world._reachable

    async def put(self, registration: Registration) -> Lease:
        data, prefix = encode(registration), node_prefix(registration)
        self._ask()
        path = fold(registration.path)
        before = self._leases.get(registration.key)
        if before is not None and self.holds(before) and _same_place(before.registration, registration, prefix):
            name = before.node
        else:
            sequential = registration.kind.sequential
            name = f"{prefix}{next(self._world._path(path).numbers):010d}" if sequential else prefix
        lease = Lease(registration, name, str(self._number))
        if not self._is_as_wished(lease, data):
            self._world._store(path, name, _Node(data, registration.kind, self._number, registration.key))
        self._leases[registration.key] = lease
        if before is not None and (fold(before.registration.path), before.node) != (path, name):
            self._drop(before)
        return lease

    async def remove(self, lease: Lease) -> None:
        self._ask()
        self._leases.pop(lease.registration.key, None)
        self._drop(lease)

    def holds(self, lease: Lease) -> bool:
        return lease.node in self._world._path(lease.registration.path).nodes

    async def lost(self, lease: Lease) -> None:
        version, changed = 0, self._world._path(lease.registration.path).changed
        while self.holds(lease):
            version, _ = await changed.after(version)

    async def read(self, path: str, decoder: Decoder) -> Snapshot:
        self._ask()
        return Decoding(path, decoder).snapshot(self._world.nodes(path), self._world._path(path).data)

    async def watch(self, path: str, decoder: Decoder) -> AsyncIterator[Snapshot]:
        await self._world._until_reachable()
        place, decoding = self._world._path(path), Decoding(path, decoder)
        async for _ in place.changed:
            await self._world._until_reachable()
            yield decoding.snapshot(self._world.nodes(path), place.data)

    def _ask(self) -> None:
        """Raises where the world cannot be asked; a session that has ended becomes a new one, as a client does."""
        if not self._world._reachable:
            raise RegistryUnavailable("memory is out of reach")
        if self._number not in self._world._live:
            self._number = self._world._begin_session()

    def _is_as_wished(self, lease: Lease, data: bytes) -> bool:
        node = self._world._path(lease.registration.path).nodes.get(lease.node)
        return node == _Node(data, lease.registration.kind, self._number, lease.registration.key)

    def _drop(self, lease: Lease) -> None:
        """Deletes the node unless another key or session has taken it over."""
        place = self._world._path(lease.registration.path)
        node = place.nodes.get(lease.node)
        if node is not None and (str(node.session), node.key) == (lease.session, lease.registration.key):
            del place.nodes[lease.node]
            place.changed.put(None)


def _same_place(before: Registration, after: Registration, prefix: str) -> bool:
    return (fold(before.path), before.kind, node_prefix(before)) == (fold(after.path), after.kind, prefix)
