"""Following a path: everything is read in one transaction, and each change from that revision on is watched.

After every interruption everything is read again: a member may have been restored, or the history compacted. A watch
whose connection has died without a word tells nothing for ever: each is compared with etcd from time to time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from dockstack.errors import RegistryUnavailable
from dockstack.registry import Decoder, Snapshot
from dockstack.registry.etcd.answers import ranges
from dockstack.registry.etcd.gateway import Gateway
from dockstack.registry.etcd.keys import below, number
from dockstack.registry.etcd.members import Members

AUDIT = 5.0
"""Seconds between two comparisons, where etcd has had any change meanwhile."""

GRACE = 1.0
"""Seconds in which a watch may catch up with what etcd said to the comparison."""

_TOGETHER = 30
"""Paths that one transaction compares; etcd takes 128 operations."""


class Discovery:
    """The watches of one process. `audit` must run as long as they are used."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._live: set[Members] = set()

    async def read(self, path: str, decoder: Decoder) -> Snapshot:
        """See the port."""
        members = Members(path, decoder)
        members.read(await self._gateway.call("kv/txn", _transaction([members.everything()])))
        return members.snapshot()

    async def watch(self, path: str, decoder: Decoder) -> AsyncIterator[Snapshot]:
        """See the port; raises RegistryUnavailable when it cannot be followed any more."""
        members = Members(path, decoder)
        async with self._gateway.turns:
            answer = await self._gateway.call("kv/txn", _transaction([members.everything()]))
        members.read(answer)
        yield members.snapshot()
        start = number(answer.get("header", {}), "revision") + 1
        self._live.add(members)
        try:
            async with aclosing(self._gateway.watch({**below(path), "start_revision": str(start)})) as batches:
                async for batch in batches:
                    changes = [members.happened(event) for message in batch for event in _events(message, path)]
                    if True in changes:
                        yield members.snapshot()
        finally:
            self._live.discard(members)

    async def audit(self) -> None:
        """For ever: where a watch does not tell what etcd has, all connections are made anew."""
        clean: int | None = None
        while True:
            await asyncio.sleep(AUDIT)
            revision = self._gateway.revision
            if (revision is not None and revision == clean) or not self._live:
                continue
            try:
                behind = await self._behind(self._live)
                if behind:
                    await asyncio.sleep(GRACE)
                    behind = await self._behind(behind)
            except RegistryUnavailable:
                continue
            if behind:
                self._gateway.renew("a connection that was open has died without a word")
            else:
                clean = revision

    async def _behind(self, watched: Iterable[Members]) -> set[Members]:
        """Those that are not as etcd has them."""
        found = set()
        some = list(watched)
        for begin in range(0, len(some), _TOGETHER):
            batch = some[begin : begin + _TOGETHER]
            questions = [one.stamp_questions() for one in batch]
            each = len(questions[0])
            answers = ranges(await self._gateway.call("kv/txn", _transaction(questions)), each * len(batch))
            for at, members in enumerate(batch):
                if members in self._live and members.stamp != members.stamp_of(answers[at * each : (at + 1) * each]):
                    found.add(members)
        return found


def _events(message: Mapping[str, Any], path: str) -> Iterable[Mapping[str, Any]]:
    if message.get("canceled"):
        why = message.get("cancel_reason") or "its history is gone, or this user may not read it and all keys below it"
        raise RegistryUnavailable(f"etcd has ended the watch of {path}: {why}")
    events: Iterable[Mapping[str, Any]] = message.get("events", ())
    return events


def _transaction(questions: Iterable[tuple[Mapping[str, Any], ...]]) -> Mapping[str, Any]:
    return {"success": [{"request_range": one} for some in questions for one in some]}
