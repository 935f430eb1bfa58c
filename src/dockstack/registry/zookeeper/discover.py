"""Following the nodes below a path.

The watch comes first, then the read, then the events: nothing falls between. Where the server has them (3.6 and later),
one persistent recursive watch covers a path, and a change costs one `get` or none; elsewhere one-shot watches do.
After each new connection the whole set is read again, because data may have changed meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import replace
from time import monotonic
from typing import TypeVar

from aiozk import exc
from aiozk.protocol.children import GetChildrenRequest
from aiozk.protocol.data import GetDataRequest
from aiozk.protocol.exists import ExistsRequest
from aiozk.protocol.watches import WatchEvent

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit, Warn
from dockstack.registry import Decoder, Snapshot
from dockstack.registry.codec import Decoding, sequence_of
from dockstack.registry.events import NodeUnread
from dockstack.registry.zookeeper.paths import join, make, parent, under
from dockstack.registry.zookeeper.session import Session
from dockstack.registry.zookeeper.wire import unwatch, watch_below, words
from dockstack.runtime.pace import pauses

T = TypeVar("T")

_LONGEST_PAUSE = 1.0  # seconds before a read that failed is tried again
_MOST_EVENTS = 10_000  # nodes told of while nobody reads; then all is read again


class Discovery:
    """Everything that one session follows. `persistent` false: one-shot watches, as for a server before 3.6."""

    def __init__(self, session: Session, root: str, emit: Emit, persistent: bool = True) -> None:
        self._session = session
        self._root = root
        self._emit = emit
        self._persistent = persistent
        self._followers: dict[str, set[_Follower]] = {}

    async def watch(self, path: str, decoder: Decoder) -> AsyncIterator[Snapshot]:
        """See the port."""
        followed = under(self._root, path)
        follower = _Follower(path, decoder)
        self._followers.setdefault(followed, set()).add(follower)
        try:
            while True:
                yield await self._next(followed, follower)
                await follower.wait()
        finally:
            self._leave(followed, follower)

    async def read(self, path: str, decoder: Decoder) -> Snapshot:
        """See the port of a reader. No watch is set and nothing is made."""
        where = under(self._root, path)
        once = _Follower(path, decoder)
        try:
            names = await once.timed("children", self._children(where, False))
            await self._get(where, once, names, False)
            await self._get_own(where, once, False)
        except exc.NoNode:
            return Snapshot((), missing=True)
        except exc.ResponseError as error:
            raise RegistryUnavailable(f"{where} cannot be read: {words(error)}") from error
        if once.hidden and not once.nodes:
            raise RegistryUnavailable(f"{where}: this user may not read any of its nodes")
        return once.snapshot()

    def happened(self, event: WatchEvent) -> None:
        """A watch event: it concerns the followers of the node itself and those of its parent."""
        path = event.path
        for follower in self._followers.get(path, ()):
            if event.type == WatchEvent.DATA_CHANGED:
                follower.touch_own()
            elif event.type == WatchEvent.CHILDREN_CHANGED:
                follower.relist()
            else:
                follower.restart()
        name = path.rpartition("/")[2]
        if name and event.type != WatchEvent.CHILDREN_CHANGED:
            for follower in self._followers.get(parent(path), ()):
                follower.touch(name, event.type == WatchEvent.DELETED)

    def reread(self) -> None:
        """The connection is a new one: all sets have to be watched and read again."""
        for group in self._followers.values():
            for follower in group:
                follower.restart()

    def _leave(self, path: str, follower: _Follower) -> None:
        group = self._followers[path]
        group.discard(follower)
        if not group:
            del self._followers[path]
            if self._persistent:
                self._session.tell(unwatch(path))

    async def _next(self, path: str, follower: _Follower) -> Snapshot:
        """The set as it is now, as soon as it can be read."""
        waits = pauses(_LONGEST_PAUSE, random.random)
        said = ""
        while True:
            await self._session.connected()
            try:
                return await self._current(path, follower)
            except (RegistryUnavailable, exc.ResponseError) as error:
                follower.forget_times()
                follower.restart()
                if self._session.is_connected and str(error) != said:  # the session tells of a lost connection
                    said = str(error)
                    why = words(error) if isinstance(error, exc.ResponseError) else said
                    self._emit(Warn(f"{path} cannot be read: {why}; trying on"))
            await asyncio.sleep(next(waits))

    async def _current(self, path: str, follower: _Follower) -> Snapshot:
        if not follower.stale:
            await self._read_changes(path, follower)
        while follower.stale:
            restarts = follower.begin()
            await self._read_all(path, follower)
            follower.stale = follower.restarts != restarts
        if follower.hidden and not follower.nodes:
            raise RegistryUnavailable("this user may not read any of its nodes")
        return follower.snapshot()

    async def _read_all(self, path: str, follower: _Follower) -> None:
        if self._persistent:
            await self._arm(path)
        one_shot = not self._persistent
        follower.missing = False
        try:
            names = await follower.timed("children", self._children(path, one_shot))
        except exc.NoNode:
            if not await follower.timed("create_path", self._made(path, one_shot)):
                follower.nodes, follower.hidden, follower.data, follower.missing = {}, set(), b"", True
                return
            names = await follower.timed("children", self._children(path, one_shot))
        follower.nodes, follower.hidden = {}, set()
        await self._get(path, follower, names, one_shot)
        await self._get_own(path, follower, one_shot)

    async def _read_changes(self, path: str, follower: _Follower) -> None:
        one_shot = not self._persistent
        events, own, listing = follower.take()
        changed = {name for name, deleted in events.items() if not deleted}
        # A name with a sequence number does not come back. Another one may have been replaced in the same moment: it is
        # not absent before the server says so.
        asked = [name for name in events.keys() - changed if sequence_of(name) is None]
        for name in events.keys() - changed - set(asked):
            follower.drop(name)
        if listing:
            try:
                names = await follower.timed("children", self._children(path, one_shot))
            except exc.NoNode:
                follower.restart()
                return
            for name in (follower.nodes.keys() | follower.hidden) - names:
                follower.drop(name)
            changed |= names - follower.nodes.keys()
        await self._read(path, follower, asked, one_shot)
        await self._get(path, follower, changed - set(asked), one_shot)
        if own:
            await self._get_own(path, follower, one_shot)

    async def _children(self, path: str, watch: bool) -> set[str]:
        listed = await self._session.call(GetChildrenRequest(path=path, watch=watch))
        return set(listed.children)

    async def _get(self, path: str, follower: _Follower, names: Iterable[str], watch: bool) -> None:
        """Reads these children, but for those whose name says all."""
        wanted = []
        for name in names:
            if follower.needs_data(name):
                wanted.append(name)
            else:
                follower.nodes[name] = b""
        await self._read(path, follower, wanted, watch)

    async def _read(self, path: str, follower: _Follower, names: list[str], watch: bool) -> None:
        """Reads these children, all at once; one that is gone meanwhile is gone, one that may not be read is named."""
        if not names:
            return
        requests = [GetDataRequest(path=join(path, name), watch=watch) for name in names]
        try:
            answers = await follower.timed("get", self._session.call_all(requests))
        except RegistryUnavailable:
            self._emit(NodeUnread(path, child=True))
            raise
        for name, node in zip(names, answers, strict=True):
            follower.drop(name)
            if isinstance(node, exc.NoNode):
                continue
            if isinstance(node, exc.NoAuth):
                follower.hidden.add(name)
                self._emit(NodeUnread(path, child=True))
            elif isinstance(node, exc.ResponseError):
                self._emit(NodeUnread(path, child=True))
                raise node
            else:
                follower.nodes[name] = node.data or b""

    async def _get_own(self, path: str, follower: _Follower, watch: bool) -> None:
        try:
            read = await follower.timed("get", self._session.call(GetDataRequest(path=path, watch=watch)))
            follower.data = read.data or b""
        except exc.NoNode:
            follower.data = b""
        except (RegistryUnavailable, exc.ResponseError):
            self._emit(NodeUnread(path, child=False))
            raise

    async def _arm(self, path: str) -> None:
        try:
            await self._session.call(watch_below(path))
        except exc.Unimplemented:
            if self._persistent:
                self._persistent = False
                self._emit(Warn("this ZooKeeper has no persistent watches (before 3.6): one-shot watches are used"))

    async def _made(self, path: str, watch: bool) -> bool:
        """Makes a path that is missing; where that is not allowed it is waited for."""
        try:
            await make(self._session, path)
        except exc.NoAuth:
            self._emit(Warn(f"{path} does not exist and may not be made by this user: waiting for it"))
            if watch:
                try:
                    await self._session.call(ExistsRequest(path=path, watch=True))
                except exc.NoNode:
                    return False
                return True
            return False
        return True


class _Follower:
    """What one reader knows of a path, and what has been told since. Only the reader changes `nodes`: an event that
    comes between a reply and its reader must not be overwritten by the reply."""

    def __init__(self, path: str, decoder: Decoder) -> None:
        self.nodes: dict[str, bytes] = {}
        self.hidden: set[str] = set()
        self.data = b""
        self.missing = False
        self.stale = True
        self.restarts = 0
        self._path = path
        self._decoding = Decoding(path, decoder)
        self._decoder = decoder
        self._events: dict[str, bool] = {}
        self._own = False
        self._listing = False
        self._wake = asyncio.Event()
        self._spent: list[tuple[str, float]] = []

    def snapshot(self) -> Snapshot:
        problems = tuple(f"{under(self._path, name)}: this user may not read it" for name in sorted(self.hidden))
        spent, self._spent = tuple(self._spent), []
        return replace(self._decoding.snapshot(self.nodes, self.data, problems), spent=spent, missing=self.missing)

    async def timed(self, what: str, request: Awaitable[T]) -> T:
        """The answer; the time until then is part of what the next snapshot has cost."""
        began = monotonic()
        answer = await request
        self._spent.append((what, monotonic() - began))
        return answer

    def forget_times(self) -> None:
        """A read has failed: what it took is part of no snapshot."""
        self._spent.clear()

    def drop(self, name: str) -> None:
        """Nothing is known of this child any more."""
        self.nodes.pop(name, None)
        self.hidden.discard(name)

    def needs_data(self, name: str) -> bool:
        """Whether the node's data must be read: a name that carries the whole instance needs none."""
        try:
            return self._decoder.from_name(name) is None
        except ValueError:
            return True

    def touch(self, name: str, deleted: bool) -> None:
        """This child was created, changed or deleted; its newest event counts."""
        self._events[name] = deleted
        self._wake.set()
        if len(self._events) > _MOST_EVENTS:
            self._events.clear()
            self.restart()

    def touch_own(self) -> None:
        """The path's own data have changed."""
        self._own = True
        self._wake.set()

    def relist(self) -> None:
        """Children came or went, and only one-shot watches tell."""
        self._listing = True
        self._wake.set()

    def restart(self) -> None:
        """All that is known may be old."""
        self.restarts += 1
        self.stale = True
        self._wake.set()

    def begin(self) -> int:
        """A read of everything begins, which covers what was told before it; returns the number of restarts so far."""
        self.take()
        return self.restarts

    def take(self) -> tuple[dict[str, bool], bool, bool]:
        """What was told, once: child → whether it was deleted; whether the path's own data or the list changed."""
        taken = self._events, self._own, self._listing
        self._events, self._own, self._listing = {}, False, False
        self._wake.clear()
        return taken

    async def wait(self) -> None:
        """Returns when something was told since it was last taken."""
        await self._wake.wait()
