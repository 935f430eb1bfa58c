"""Writing registrations and knowing that they are there.

A create whose answer was lost is looked for before it is repeated. Each node carries one watch, so that its loss is
known without asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from aiozk import exc

from dockstack.errors import RegistryRefused, RegistryUnavailable
from dockstack.events import Emit
from dockstack.registry import Lease, Registration
from dockstack.registry.codec import encode, node_prefix
from dockstack.registry.url import fold
from dockstack.registry.zookeeper import nodes
from dockstack.registry.zookeeper.connection import Interrupted
from dockstack.registry.zookeeper.nodes import Attempt, Draft, Node
from dockstack.registry.zookeeper.paths import make, under
from dockstack.registry.zookeeper.session import Session
from dockstack.registry.zookeeper.wire import words
from dockstack.runtime.latest import Latest
from dockstack.runtime.loops import until_done

_TRIES = 3  # creates within one put: the parent was missing, or the connection was cut
_AGAIN = 0.25  # seconds before a node is asked for again when the answer did not come


@dataclass(slots=True)
class _Held:
    """A registration that we have written, until we remove it or learn that it is gone."""

    lease: Lease
    draft: Draft
    node: Node
    gone: Latest[None] = field(default_factory=Latest)

    @property
    def is_gone(self) -> bool:
        return self.gone.version > 0

    def is_of(self, lease: Lease) -> bool:
        """Whether the lease is for this node, whatever was written to it since."""
        ours = self.lease
        at, path = ours.registration.path, lease.registration.path
        return (ours.node, ours.session, fold(at)) == (lease.node, lease.session, fold(path))


@dataclass(slots=True)
class _Entry:
    """What is known of one key; only who has the lock changes it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    held: _Held | None = None
    attempt: Attempt | None = None


class Announcements:
    """The registrations of one session. `verify` and `clean` must run as long as they are used."""

    def __init__(self, session: Session, root: str, emit: Emit) -> None:
        self._session = session
        self._root = root
        self._emit = emit
        self._entries: dict[str, _Entry] = {}
        self._at: dict[str, str] = {}  # node path → key
        self._doubtful: set[str] = set()
        self._doubts = asyncio.Event()
        self._left: dict[str, _Held] = {}  # nodes that their registration has left for another path, to be deleted
        self._to_clean: asyncio.Queue[_Held] = asyncio.Queue()

    async def put(self, registration: Registration) -> Lease:
        """See the port."""
        above = under(self._root, registration.path)
        draft = Draft(above, node_prefix(registration), encode(registration), registration.kind)
        async with self._call(f"{above} cannot be written"), self._turn(registration.key) as entry:
            before = entry.held
            try:
                node = await self._rewritten(before, draft) or await self._created(entry, draft)
            except exc.ResponseError as error:
                if entry.attempt is None:
                    raise RegistryRefused(f"{above} cannot be written: {words(error)}") from None
                raise
            held = self._keep(entry, registration, draft, node)
            if before is not None and before.node.path in self._left:
                try:
                    await self._discard(before)
                except RegistryUnavailable:
                    pass  # `clean` goes on with it
                finally:
                    self._to_clean.put_nowait(before)
            return held.lease

    async def remove(self, lease: Lease) -> None:
        """See the port."""
        key = lease.registration.key
        async with self._call(f"{lease.registration.path}/{lease.node} cannot be deleted"), self._turn(key) as entry:
            held = entry.held
            if held is None or not held.is_of(lease):
                return  # another registration of this key has taken its place, and the node with it
            if not self._ended(held):
                await nodes.delete(self._session, held.node, lambda: self._at.get(held.node.path) != key)
            self._forget(held)
            entry.held = None
            held.gone.put(None)

    def holds(self, lease: Lease) -> bool:
        """See the port."""
        held = self._held_by(lease)
        return held is not None and not held.is_gone

    async def lost(self, lease: Lease) -> None:
        """See the port."""
        held = self._held_by(lease)
        if held is not None:
            await held.gone.after(0)

    # what the session and the watches say

    def doubt(self, path: str) -> None:
        """Something happened to this node: `verify` will ask."""
        key = self._at.get(path)
        if key is not None:
            self._doubt(key)

    def doubt_all(self) -> None:
        """The connection is a new one, or the session has ended: every node has to be asked for, and watched, again."""
        for key, entry in self._entries.items():
            if entry.held is not None:
                if self._ended(entry.held):
                    entry.held.gone.put(None)
                self._doubt(key)

    async def verify(self) -> None:
        """Runs for ever: asks for the nodes in doubt, all at once, and marks those that are no longer ours."""
        queued: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._doubts.wait()
                self._doubts.clear()
                await self._session.connected()
                doubtful, self._doubtful = self._doubtful, set()
                for key in doubtful - queued:
                    queued.add(key)
                    group.create_task(self._verify(key, queued))

    async def clean(self) -> None:
        """Runs for ever: deletes the nodes whose registration has moved, however long that takes."""
        async with asyncio.TaskGroup() as group:
            while True:
                held = await self._to_clean.get()
                if held.node.path in self._left:
                    group.create_task(self._clean(held))

    def _doubt(self, key: str) -> None:
        self._doubtful.add(key)
        self._doubts.set()

    async def _verify(self, key: str, queued: set[str]) -> None:
        """Looks at one node when its key is free; what is told from then on makes it doubtful anew."""
        if key not in self._entries:
            queued.discard(key)
            return
        try:
            async with self._turn(key) as entry:
                queued.discard(key)
                held = entry.held
                if held is None or held.is_gone:
                    return
                if not await nodes.is_there(self._session, held.node):
                    held.gone.put(None)
        except exc.ResponseError:
            return  # a node that may not be asked for is still there
        except RegistryUnavailable:
            await asyncio.sleep(_AGAIN)
            self._doubt(key)

    async def _clean(self, held: _Held) -> None:
        async def discard() -> None:
            async with self._call(f"{held.node.path} cannot be deleted"):
                await self._discard(held)

        await until_done(f"withdrawing {held.node.path}", discard, (RegistryUnavailable,), self._emit, cap=5.0)

    # inside; the key's lock is held

    async def _rewritten(self, before: _Held | None, draft: Draft) -> Node | None:
        """The node from before with new data, if it can stay; else None."""
        if before is None or before.is_gone or self._ended(before) or before.draft.place != draft.place:
            return None
        # Until the answer is here the node may hold either.
        before.node = replace(before.node, data=before.node.data | {draft.data})
        try:
            return await nodes.write(self._session, before.node.path, draft)
        except exc.NoNode:
            before.gone.put(None)
            return None

    async def _created(self, entry: _Entry, draft: Draft) -> Node:
        node = await self._adopted(entry, draft)
        for _ in range(_TRIES):
            if node is not None:
                return node
            entry.attempt = await nodes.attempt(self._session, draft)
            try:
                node = await nodes.create(self._session, draft)
            except Interrupted:
                node = await self._adopted(entry, draft)
            except exc.ResponseError as error:
                entry.attempt = None  # nothing was made
                node = await self._in_the_way(entry, draft, error)
        if node is None:
            raise RegistryUnavailable(f"{draft.parent} is deleted, or changed by others, again and again")
        return node

    async def _in_the_way(self, entry: _Entry, draft: Draft, error: exc.ResponseError) -> Node | None:
        """Deals with what a create was refused for; None when it is to be tried again."""
        if isinstance(error, exc.NoNode):
            await make(self._session, draft.parent)
            return None
        if isinstance(error, exc.NodeExists):
            was_lost = entry.held is not None and entry.held.draft.place == draft.place
            return await nodes.take_over(self._session, draft, was_lost)
        raise error

    async def _adopted(self, entry: _Entry, draft: Draft) -> Node | None:
        """The node of an earlier create of this key whose answer was lost, if it was carried out; made as wished."""
        attempt = entry.attempt
        if attempt is None:
            return None
        path = await nodes.find(self._session, attempt, self._is_spoken_for)
        if path is None:
            return None
        if attempt.draft.place != draft.place:
            left = Node(path, attempt.draft.kind, attempt.data)
            await nodes.delete(self._session, left, lambda: path in self._at)
            entry.attempt = None
            return None
        if attempt.data == {draft.data}:
            return Node(path, draft.kind, attempt.data)
        entry.attempt = replace(attempt, data=attempt.data | {draft.data})
        return await nodes.write(self._session, path, draft)

    def _keep(self, entry: _Entry, registration: Registration, draft: Draft, node: Node) -> _Held:
        """Notes what was written, without a pause since the answer; the watch is `verify`'s work."""
        before = entry.held
        held = _Held(Lease(registration, node.path.rpartition("/")[2], f"{self._session.id:#x}"), draft, node)
        if before is not None:
            self._forget(before)
            if before.node.path != node.path and not before.is_gone:
                self._left[before.node.path] = before
            if before.draft.place == draft.place and not before.is_gone:
                held.gone = before.gone  # the same node: who waits for its loss goes on
            else:
                before.gone.put(None)
        entry.held, entry.attempt = held, None
        self._at[node.path] = registration.key
        self._left.pop(node.path, None)
        self._doubt(registration.key)
        return held

    async def _discard(self, held: _Held) -> None:
        """Deletes a node that was left, unless a registration has taken it again."""
        path = held.node.path
        if not self._ended(held):
            await nodes.delete(self._session, held.node, lambda: self._left.get(path) is not held)
        if self._left.get(path) is held:
            del self._left[path]

    def _is_spoken_for(self, path: str) -> bool:
        """Whether the node is a registration's, or about to be deleted because it was one's."""
        return path in self._at or path in self._left

    def _forget(self, held: _Held) -> None:
        if self._at.get(held.node.path) == held.lease.registration.key:
            del self._at[held.node.path]

    def _held_by(self, lease: Lease) -> _Held | None:
        entry = self._entries.get(lease.registration.key)
        held = None if entry is None else entry.held
        return held if held is not None and held.is_of(lease) else None

    def _ended(self, held: _Held) -> bool:
        """Whether the node went with the session that owned it."""
        return held.draft.kind.ephemeral and held.lease.session != f"{self._session.id:#x}"

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[_Entry]:
        """The key's entry, to this task alone; an entry that says nothing is not kept."""
        entry = self._entries.setdefault(key, _Entry())
        entry.users += 1
        try:
            async with entry.lock:
                yield entry
        finally:
            entry.users -= 1
            if not entry.users and entry.held is None and entry.attempt is None:
                del self._entries[key]

    @asynccontextmanager
    async def _call(self, what: str) -> AsyncIterator[None]:
        """Three quarters of the session's time-out for a whole call, and the port's error for all that can go wrong."""
        limit = 1.5 * self._session.limit
        try:
            async with asyncio.timeout(limit):
                yield
        except TimeoutError:
            raise RegistryUnavailable(f"{what} within {limit:.1f} s ({self._session.state})") from None
        except exc.ResponseError as error:
            raise RegistryUnavailable(f"{what}: {words(error)}") from None
