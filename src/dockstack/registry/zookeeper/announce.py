"""Writing registrations and knowing that they are there.

A node is ours when its `ephemeralOwner` is our session; a create whose answer was lost is looked for before it is
repeated. Each node carries one watch, so that its loss is known without asking.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiozk import exc
from aiozk.protocol.children import GetChildrenRequest
from aiozk.protocol.create import CreateRequest
from aiozk.protocol.data import GetDataRequest, SetDataRequest
from aiozk.protocol.delete import DeleteRequest
from aiozk.protocol.exists import ExistsRequest
from aiozk.protocol.transaction import TransactionRequest

from dockstack.errors import RegistryUnavailable
from dockstack.registry import Lease, Registration
from dockstack.registry.codec import encode, node_prefix
from dockstack.registry.url import fold
from dockstack.registry.zookeeper.connection import Interrupted
from dockstack.registry.zookeeper.paths import ANYONE, join, make
from dockstack.registry.zookeeper.session import Session

_ANY_VERSION = -1


@dataclass(slots=True)
class _Held:
    """A registration that we have written, until we remove it or learn that it is gone."""

    lease: Lease
    path: str
    data: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A create that may have happened: what it would have made, in which session, after which transaction."""

    parent: str
    prefix: str
    data: bytes
    session: int
    zxid: int


class Announcements:
    """The registrations of one session."""

    def __init__(self, session: Session, root: str) -> None:
        self._session = session
        self._root = root
        self._held: dict[str, _Held] = {}
        self._at: dict[str, str] = {}  # node path → key
        self._attempts: dict[str, _Attempt] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._doubtful: set[str] = set()
        self._doubts = asyncio.Event()

    async def put(self, registration: Registration) -> Lease:
        """See the port."""
        data, prefix = encode(registration), node_prefix(registration)
        async with self._locks.setdefault(registration.key, asyncio.Lock()):
            before = self._held.get(registration.key)
            try:
                held = await self._rewritten(before, registration, data, prefix)
                if held is None:
                    held = await self._created(before, registration, data, prefix)
                if before is not None and before.path != held.path:
                    await self._delete(before)
                    before.gone.set()
            except exc.ResponseError as error:
                raise RegistryUnavailable(f"{fold(registration.path)} cannot be written: {error}") from None
            return held.lease

    async def remove(self, lease: Lease) -> None:
        """See the port."""
        key = lease.registration.key
        async with self._locks.setdefault(key, asyncio.Lock()):
            held = self._held.get(key)
            if held is None or held.lease.node != lease.node or held.lease.session != lease.session:
                return  # another registration of this key has taken its place, and the node with it
            try:
                await self._delete(held)
            except exc.ResponseError as error:
                raise RegistryUnavailable(f"{held.path} cannot be deleted: {error}") from None
            self._forget(held)
            del self._held[key]
            held.gone.set()

    def holds(self, lease: Lease) -> bool:
        """See the port."""
        held = self._held.get(lease.registration.key)
        return held is not None and held.lease.node == lease.node and not held.gone.is_set()

    async def lost(self, lease: Lease) -> None:
        """See the port."""
        held = self._held.get(lease.registration.key)
        if held is not None and held.lease.node == lease.node:
            await held.gone.wait()

    # what the session and the watches say

    def doubt(self, path: str) -> None:
        """Something happened to this node: `verify` will ask."""
        key = self._at.get(path)
        if key is not None:
            self._doubtful.add(key)
            self._doubts.set()

    def doubt_all(self) -> None:
        """The connection is a new one: every node has to be asked for, and watched, again."""
        for held in self._held.values():
            if self._ended(held):
                held.gone.set()
        self._doubtful.update(self._held)
        self._doubts.set()

    async def verify(self) -> None:
        """Runs for ever: asks for the nodes in doubt, all at once, and marks those that are no longer ours."""
        while True:
            await self._doubts.wait()
            self._doubts.clear()
            keys, self._doubtful = self._doubtful, set()
            async with asyncio.TaskGroup() as group:
                for key in keys:
                    group.create_task(self._verify(key))

    async def _verify(self, key: str) -> None:
        async with self._locks.setdefault(key, asyncio.Lock()):
            held = self._held.get(key)
            if held is None or held.gone.is_set():
                return
            try:
                if not await self._watched(held):
                    held.gone.set()
            except (RegistryUnavailable, exc.ResponseError):
                # The next connection brings all nodes into doubt again; a node that may not be read is still there.
                return

    # inside; the key's lock is held

    async def _rewritten(
        self, before: _Held | None, registration: Registration, data: bytes, prefix: str
    ) -> _Held | None:
        """The node from before with new data, if it can stay; else None."""
        if before is None or before.gone.is_set() or self._ended(before):
            return None
        was = before.lease.registration
        if (fold(was.path), was.kind, node_prefix(was)) != (fold(registration.path), registration.kind, prefix):
            return None
        try:
            await self._session.call(SetDataRequest(path=before.path, data=data, version=_ANY_VERSION))
        except exc.NoNode:
            before.gone.set()
            return None
        return self._keep(registration, before.path, data, before.gone)

    async def _created(self, before: _Held | None, registration: Registration, data: bytes, prefix: str) -> _Held:
        above = self._root + fold(registration.path)
        path = await self._found(registration, above, prefix, data)
        if path is None:
            path = await self._create(before, registration, above, prefix, data)
        self._attempts.pop(registration.key, None)
        held = self._keep(registration, path, data, asyncio.Event())
        if not await self._watched(held):
            held.gone.set()
        return held

    async def _create(
        self, before: _Held | None, registration: Registration, above: str, prefix: str, data: bytes
    ) -> str:
        kind = registration.kind
        request = CreateRequest(path=join(above, prefix), data=data, acl=ANYONE)
        request.set_flags(ephemeral=kind.ephemeral, sequential=kind.sequential)
        for _ in range(2):
            self._attempts[registration.key] = _Attempt(above, prefix, data, self._session.id, self._session.zxid)
            try:
                made = await self._session.call(request)
            except exc.NoNode:
                await make(self._session, above)
            except exc.NodeExists:
                return await self._taken_over(before, registration, join(above, prefix), data)
            except Interrupted:
                path = await self._found(registration, above, prefix, data)
                if path is not None:
                    return path
            else:
                return str(made.path)
        raise RegistryUnavailable(f"{above} cannot be written: it is deleted, or the connection cut, again and again")

    async def _found(self, registration: Registration, above: str, prefix: str, data: bytes) -> str | None:
        """The node of an earlier create of this key whose answer was lost, if it was carried out.

        It is ours when our session owns it (a persistent one: when it is newer than the attempt), its data are the
        attempt's, and no other key holds it.
        """
        attempt = self._attempts.get(registration.key)
        if attempt is None:
            return None
        if registration.kind.ephemeral and attempt.session not in (0, self._session.id):
            return None
        try:
            listed = await self._session.call(GetChildrenRequest(path=attempt.parent, watch=False))
        except exc.NoNode:
            return None
        for name in sorted(listed.children):
            path = join(attempt.parent, name)
            if not name.startswith(attempt.prefix) or path in self._at:
                continue
            try:
                node = await self._session.call(GetDataRequest(path=path, watch=False))
            except exc.NoNode:
                continue
            owned = node.stat.ephemeral_owner == self._session.id or not registration.kind.ephemeral
            if owned and node.stat.created_zxid > attempt.zxid and (node.data or b"") == attempt.data:
                if (attempt.parent, attempt.prefix, attempt.data) == (above, prefix, data):
                    return path
                await self._gone(path)
        return None

    async def _taken_over(self, before: _Held | None, registration: Registration, path: str, data: bytes) -> str:
        """Makes the existing node ours: by writing, and where another session owns it by replacing it in one step.

        Whoever lost the node to somebody else only writes: two owners would take it from each other for ever.
        """
        try:
            node = await self._session.call(GetDataRequest(path=path, watch=False))
            foreign = registration.kind.ephemeral and node.stat.ephemeral_owner != self._session.id
            if foreign and (before is None or before.path != path):
                replace = TransactionRequest()
                replace.add(DeleteRequest(path=path, version=node.stat.version))
                create = CreateRequest(path=path, data=data, acl=ANYONE)
                create.set_flags(ephemeral=True)
                replace.add(create)
                answer = await self._session.call(replace)
                if any(isinstance(part, exc.ResponseError) for part in answer.responses):
                    raise RegistryUnavailable(f"{path} was changed by its other owner at the same moment")
            else:
                await self._session.call(SetDataRequest(path=path, data=data, version=_ANY_VERSION))
        except exc.NoNode:
            raise RegistryUnavailable(f"{path} was deleted by its other owner at the same moment") from None
        return path

    async def _watched(self, held: _Held) -> bool:
        """Whether the node is there and ours; leaves a watch on it. Raises as `Session.call` does."""
        try:
            found = await self._session.call(ExistsRequest(path=held.path, watch=True))
        except exc.NoNode:
            return False
        return not held.lease.registration.kind.ephemeral or self._is_owner(held, found.stat)

    def _is_owner(self, held: _Held, stat: Any) -> bool:
        """A non-sequential node that somebody else owns but we have written stays with us until it is deleted."""
        return stat.ephemeral_owner == self._session.id or not held.lease.registration.kind.sequential

    async def _delete(self, held: _Held) -> None:
        """Deletes a node that is still ours. Nobody else writes to a sequential one; another may hold our data's."""
        kind = held.lease.registration.kind
        if self._ended(held):
            return
        if kind.sequential:
            await self._gone(held.path)
            return
        try:
            node = await self._session.call(GetDataRequest(path=held.path, watch=False))
            if (node.data or b"") == held.data:
                await self._session.call(DeleteRequest(path=held.path, version=node.stat.version))
        except (exc.NoNode, exc.BadVersion):
            return

    async def _gone(self, path: str) -> None:
        try:
            await self._session.call(DeleteRequest(path=path, version=_ANY_VERSION))
        except exc.NoNode:
            return

    def _ended(self, held: _Held) -> bool:
        """Whether the node went with the session that owned it."""
        return held.lease.registration.kind.ephemeral and held.lease.session != _name(self._session.id)

    def _keep(self, registration: Registration, path: str, data: bytes, gone: asyncio.Event) -> _Held:
        before = self._held.get(registration.key)
        if before is not None:
            self._forget(before)
        lease = Lease(registration, path.rpartition("/")[2], _name(self._session.id))
        held = self._held[registration.key] = _Held(lease, path, data, gone)
        self._at[path] = registration.key
        return held

    def _forget(self, held: _Held) -> None:
        if self._at.get(held.path) == held.lease.registration.key:
            del self._at[held.path]


def _name(session: int) -> str:
    return f"{session:#x}"
