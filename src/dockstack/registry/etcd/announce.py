"""Writing registrations and knowing that they are there.

A key is named before it is first written, so that a write whose answer was lost can simply be repeated. One watch on
the deletions in the directory that all our keys lie in tells of each that is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from dockstack.errors import RegistryUnavailable
from dockstack.registry import Lease, Registration
from dockstack.registry.codec import encode
from dockstack.registry.etcd.answers import NOT_FOUND, Refused, ranges
from dockstack.registry.etcd.gateway import Gateway
from dockstack.registry.etcd.keys import common, directory, name_of, number, plain, quoted, within
from dockstack.registry.etcd.lease import Tenure
from dockstack.registry.etcd.writer import Writer
from dockstack.registry.url import fold
from dockstack.runtime.pace import pauses

_TOGETHER = 100
"""Keys that one transaction asks for."""

AUDIT = 10.0
"""Seconds between two looks at all our keys, beside the watch."""

_STAYS = "-"
"""The session of a registration that outlives this process."""


@dataclass(slots=True)
class _Held:
    """A registration that we have written, until we remove it or learn that it is gone."""

    lease: Lease
    key: str
    values: frozenset[bytes]
    revision: int
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def is_of(self, lease: Lease) -> bool:
        """Whether the lease is for this node, whatever was written to it since."""
        return (self.key, self.lease.session) == (_key(lease.registration.path, lease.node), lease.session)


@dataclass(slots=True)
class _Entry:
    """What is known of one registration; only who has the lock changes it. `named`: the name for the next write."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: _Held | None = None
    named: tuple[object, str] | None = None


class Announcements:
    """The registrations of one process. `verify` must run as long as they are used."""

    def __init__(self, gateway: Gateway, tenure: Tenure, writer: Writer) -> None:
        self._gateway = gateway
        self._tenure = tenure
        self._writer = writer
        self._entries: dict[str, _Entry] = {}
        self._at: dict[str, str] = {}  # etcd's key → ours
        self._numbers = itertools.count(1)
        self._moved = asyncio.Event()

    async def put(self, registration: Registration) -> Lease:
        """See the port."""
        entry = self._entries.setdefault(registration.key, _Entry())
        async with entry.lock:
            lease = await self._tenure.lease()
            try:
                return await self._put(entry, registration, lease)
            except Refused as error:
                if error.code != NOT_FOUND:
                    raise
                self._tenure.lose(lease)
            return await self._put(entry, registration, await self._tenure.lease())

    async def remove(self, lease: Lease) -> None:
        """See the port."""
        entry = self._entries.get(lease.registration.key)
        if entry is None:
            return
        async with entry.lock:
            held = entry.held
            if held is None or not held.is_of(lease):
                return
            if not held.gone.is_set():
                await self._writer.write(frozenset({held.key}), (self._deletion(held),))
            self._forget(held)
            entry.held = entry.named = None
            held.gone.set()

    def holds(self, lease: Lease) -> bool:
        """See the port."""
        held = self._held_by(lease)
        return held is not None and not held.gone.is_set()

    async def lost(self, lease: Lease) -> None:
        """See the port."""
        held = self._held_by(lease)
        if held is not None:
            await held.gone.wait()

    def ended(self, lease: int) -> None:
        """The lease has ended, and with it all that it kept."""
        for held in self._all():
            if held.lease.session == f"{lease:016x}":
                held.gone.set()

    async def verify(self) -> None:
        """Runs for ever: learns of our keys that others delete, and asks for all of them after each interruption."""
        waits = pauses(1.0, random.random)
        while True:
            if not self._at:
                await self._changed()
                continue
            place = self._place()
            try:
                async with asyncio.TaskGroup() as tasks:
                    following = tasks.create_task(self._follow(place))
                    while self._at and self._place().startswith(place):
                        changed = asyncio.ensure_future(self._changed())
                        try:
                            await asyncio.wait((changed, following), return_when=asyncio.FIRST_COMPLETED)
                        finally:
                            changed.cancel()
                        if following.done():
                            break
                    following.cancel()
            except* RegistryUnavailable:
                await asyncio.sleep(next(waits))
            else:
                waits = pauses(1.0, random.random)

    async def audit(self) -> None:
        """Runs for ever: finds what the watch did not tell, as its connection may have died without a word."""
        while True:
            await asyncio.sleep(AUDIT)
            with suppress(RegistryUnavailable):
                await self._ask_for_all()

    async def _changed(self) -> None:
        await self._moved.wait()
        self._moved.clear()

    def _place(self) -> str:
        return common(frozenset(f"{key.rpartition('/')[0]}/" for key in self._at))

    async def _follow(self, place: str) -> None:
        """Raises RegistryUnavailable when the watch has ended."""
        revision = await self._ask_for_all()
        create = {**within(place), "start_revision": str(revision + 1), "filters": ["NOPUT"]}
        async with aclosing(self._gateway.watch(create)) as batches:
            async for message in (message async for batch in batches for message in batch):
                if message.get("canceled"):
                    raise RegistryUnavailable(f"etcd: {message.get('cancel_reason', 'the watch was canceled')}")
                for event in message.get("events", ()):
                    fields = event.get("kv", {})
                    self._deleted(plain(fields.get("key", "")), fields)

    def _deleted(self, key: str, fields: Mapping[str, Any]) -> None:
        held = self._held_at(key)
        if held is not None and number(fields, "mod_revision") > held.revision:
            held.gone.set()

    async def _ask_for_all(self) -> int:
        """Finds out which of our keys are gone; returns a revision up to which that is known.

        Whether a key was written after the question shows in what we hold of it, and not in etcd's revision: that goes
        back when etcd is restored from a backup, or has lost its data.
        """
        revisions: list[int] = []
        keys = list(self._at)
        for start in range(0, len(keys), _TOGETHER):
            some = keys[start : start + _TOGETHER]
            before = [(held, held.revision) if (held := self._held_at(key)) is not None else None for key in some]
            ask = [{"request_range": {"key": quoted(key), "keys_only": True}} for key in some]
            answer = await self._gateway.call("kv/txn", {"success": ask})
            revisions.append(number(answer.get("header", {}), "revision"))
            for key, known, one in zip(some, before, ranges(answer, len(some)), strict=True):
                held = self._held_at(key)
                if held is None or known != (held, held.revision):
                    continue
                found = one.get("kvs", ())
                if found:
                    held.revision = number(found[0], "mod_revision")
                else:
                    held.gone.set()
        return min(revisions, default=0)

    # inside; the registration's lock is held

    async def _put(self, entry: _Entry, registration: Registration, lease: int) -> Lease:
        data, before = encode(registration), entry.held
        session = f"{lease:016x}" if registration.kind.ephemeral else _STAYS
        place: tuple[object, ...] = (
            fold(registration.path),
            registration.kind,
            registration.instance.name,
            data if registration.path_encoding else None,
            session,
        )
        alive = before is not None and not before.gone.is_set() and before.lease.session == session
        if entry.named is None or entry.named[0] != place or (registration.kind.sequential and not alive and before):
            entry.named = (place, name_of(registration, lease, next(self._numbers)))
            if before is not None and before.gone.is_set():
                self._forget(before)
                entry.held = before = None
        name = entry.named[1]
        key = _key(registration.path, name)
        put: dict[str, Any] = {"key": quoted(key), "value": quoted(data)}
        if registration.kind.ephemeral:
            put["lease"] = str(lease)
        operations: list[Mapping[str, Any]] = [{"request_put": put}]
        keys = {key}
        if before is not None and before.key != key and not before.gone.is_set():
            operations.append(self._deletion(before))
            keys.add(before.key)
        elif before is not None:
            before.values |= {data}  # until the answer is here the key may hold either
        revision = await self._writer.write(
            frozenset(keys), tuple(operations), lease if registration.kind.ephemeral else 0
        )
        return self._keep(entry, Lease(registration, name, session), key, data, revision)

    def _keep(self, entry: _Entry, lease: Lease, key: str, data: bytes, revision: int) -> Lease:
        before = entry.held
        if before is not None and before.key == key and before.lease.session == lease.session:
            before.lease, before.values, before.revision = lease, frozenset({data}), revision
            if before.gone.is_set():
                before.gone = asyncio.Event()
        else:
            if before is not None:
                before.gone.set()
                self._forget(before)
            entry.held = _Held(lease, key, frozenset({data}), revision)
        self._at[key] = lease.registration.key
        self._moved.set()
        return lease

    def _deletion(self, held: _Held) -> Mapping[str, Any]:
        """Deletes the key if it is still ours: on our lease, or, where it outlives us, with what we have written."""
        if self._at.get(held.key) != held.lease.registration.key:
            return {"request_txn": {}}  # another registration of this process has taken its place
        compare: list[Mapping[str, Any]]
        if held.lease.session != _STAYS:
            lease = str(int(held.lease.session, 16))
            compare = [{"key": quoted(held.key), "target": "LEASE", "result": "EQUAL", "lease": lease}]
            return _conditional(compare, held.key)
        inner: Mapping[str, Any] = {"request_txn": {}}
        for value in held.values:
            compare = [{"key": quoted(held.key), "target": "VALUE", "result": "EQUAL", "value": quoted(value)}]
            inner = _conditional(compare, held.key, inner)
        return inner

    def _forget(self, held: _Held) -> None:
        if self._at.get(held.key) == held.lease.registration.key:
            del self._at[held.key]
            self._moved.set()

    def _all(self) -> list[_Held]:
        return [entry.held for entry in self._entries.values() if entry.held is not None]

    def _held_at(self, key: str) -> _Held | None:
        entry = self._entries.get(self._at.get(key, ""))
        return None if entry is None or entry.held is None or entry.held.key != key else entry.held

    def _held_by(self, lease: Lease) -> _Held | None:
        entry = self._entries.get(lease.registration.key)
        held = None if entry is None else entry.held
        return held if held is not None and held.is_of(lease) else None


def _key(path: str, name: str) -> str:
    return f"{directory(path)}{name}"


def _conditional(
    compare: list[Mapping[str, Any]], key: str, otherwise: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    inner: dict[str, Any] = {"compare": compare, "success": [{"request_delete_range": {"key": quoted(key)}}]}
    if otherwise is not None:
        inner["failure"] = [otherwise]
    return {"request_txn": inner}
