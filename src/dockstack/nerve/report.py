"""Keeps a registry equal to what is wished for one service: registered so, or not at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from dockstack.errors import RegistryRefused, RegistryUnavailable
from dockstack.events import Emit, said_once
from dockstack.nerve.events import Abandoned, Lost, Registered, Reporting, Withdrawn
from dockstack.registry import Announcer, Lease, Registration
from dockstack.runtime.latest import Latest
from dockstack.runtime.loops import until_done
from dockstack.runtime.pace import pauses

WITHDRAWAL = 2.0
"""Seconds that a service's withdrawal may take at the end."""

_SETTLED = 5.0  # seconds that a registration must live before the next loss is answered at once again


@dataclass(frozen=True, slots=True)
class Reported:
    """What the registry has of a service after the last try: its lease, or none; and why the try failed."""

    lease: Lease | None
    error: str | None = None


def place(lease: Lease) -> str:
    """The node's path, for people."""
    return f"{lease.registration.path.rstrip('/')}/{lease.node}"


async def keep(
    name: str,
    wishes: Latest[Registration | None],
    announcer: Announcer,
    *,
    reports: Latest[Reported],
    emit: Emit,
    withdrawal: float = WITHDRAWAL,
) -> None:
    """Follows the newest wish for the service `name` until it is cancelled, and withdraws the service then.

    A wish is written once; it is written again when the registration is lost, and for persistent nodes every `ttl`
    seconds. What the registry refuses is tried again, with the wish that is the newest then. A call that is under way
    is never cut off, because half a call may leave a node that nobody owns: a cancellation waits for it, and for the
    withdrawal, for `withdrawal` seconds in all.
    """
    keeper = _Keeper(name, wishes, announcer, reports, said_once(emit))
    try:
        await keeper.follow()
    finally:
        await keeper.withdraw(withdrawal)


class _Keeper:
    def __init__(
        self,
        name: str,
        wishes: Latest[Registration | None],
        announcer: Announcer,
        reports: Latest[Reported],
        emit: Emit,
    ) -> None:
        self._name = name
        self._wishes = wishes
        self._announcer = announcer
        self._reports = reports
        self._emit = emit
        self._lease: Lease | None = None
        self._written: Registration | None = None
        self._unsure: Registration | None = None  # a call for it failed: the registry may have it all the same
        self._call: asyncio.Task[int] | None = None

    async def follow(self) -> None:
        waits = pauses(1.0, random.random)
        refresh: float | None = None
        clock = asyncio.get_running_loop().time
        await self._wishes.after(0)
        while True:
            version = await until_done(f"registering {self._name}", self._settled, (RegistryUnavailable,), self._emit)
            since, refresh = clock(), self._next_refresh(refresh)
            if await self._changed(version, refresh):
                continue
            self._written = None
            if self._lease is not None and not self._announcer.holds(self._lease):
                self._emit(Lost(self._name, place(self._lease)))
                self._lease = None
                self._reports.put(Reported(None))
                # At once the first time; but whoever deletes it over and over is not answered in a busy loop.
                waits = waits if clock() - since < _SETTLED else pauses(1.0, random.random)
                await asyncio.sleep(next(waits))

    async def withdraw(self, limit: float) -> None:
        """Ends what is under way and deletes the node; after `limit` seconds it is given up, with an event."""
        try:
            async with asyncio.timeout(limit):
                if self._call is not None:
                    await asyncio.wait({self._call})
                await until_done(f"withdrawing {self._name}", self._remove, (RegistryUnavailable,), self._emit)
        except TimeoutError:
            left = self._unsure or (self._lease.registration if self._lease else None)
            if left is not None:
                self._emit(Abandoned(self._name, left.path, limit, left.kind.ephemeral))
        finally:
            await self._end_call()

    async def _end_call(self) -> None:
        if self._call is None:
            return
        self._call.cancel()
        await asyncio.wait({self._call})
        if not self._call.cancelled():
            error = self._call.exception()
            if error is not None and not isinstance(error, RegistryUnavailable):
                raise error

    async def _settled(self) -> int:
        """Makes the registry as the newest wish has it, and returns that wish's version."""
        return await self._uncut(self._settle())

    async def _settle(self) -> int:
        version, wish = await self._wishes.after(0)
        try:
            if wish is None:
                await self._remove()
            elif wish != self._written:
                await self._put(wish)
        except RegistryUnavailable as error:
            self._reports.put(Reported(self._lease, str(error) or type(error).__name__))
            self._emit(Reporting(self._name, done=False))
            raise
        self._reports.put(Reported(self._lease))
        self._emit(Reporting(self._name, done=True))
        return version

    async def _put(self, registration: Registration) -> None:
        before, self._unsure = self._lease, registration
        try:
            self._lease = await self._announcer.put(registration)
        except RegistryRefused:
            self._unsure = None
            raise
        self._written, self._unsure = registration, None
        if self._lease != before:
            self._emit(Registered(self._name, place(self._lease)))

    async def _remove(self) -> None:
        if self._unsure is not None:  # only a put tells which node it is
            self._lease = await self._announcer.put(self._unsure)
            self._unsure = None
        if self._lease is not None:
            await self._announcer.remove(self._lease)
            self._emit(Withdrawn(self._name, place(self._lease)))
        self._lease = self._written = None

    async def _changed(self, version: int, refresh: float | None) -> bool:
        """Whether a newer wish ended the wait; else the registration was lost, or it is time to write it again."""
        woken = self._wishes.newer(version)
        wake = partial(_wake, woken)
        alarm = None if refresh is None else asyncio.get_running_loop().call_at(refresh, wake)
        lost: asyncio.Task[None] | None = None
        if self._lease is not None:
            lost = asyncio.ensure_future(self._announcer.lost(self._lease))
            lost.add_done_callback(wake)
        try:
            await woken
        finally:
            if alarm is not None:
                alarm.cancel()
            if lost is not None:
                lost.cancel()
                await asyncio.wait((lost,))
        if lost is not None and not lost.cancelled():
            lost.result()
        return self._wishes.version > version

    def _next_refresh(self, before: float | None) -> float | None:
        wish = self._written
        if wish is None or wish.ttl is None or wish.kind.ephemeral:
            return None
        now = asyncio.get_running_loop().time()
        if before is None:
            return now + random.random() * wish.ttl
        return before if before > now else now + wish.ttl

    async def _uncut(self, call: Coroutine[Any, Any, int]) -> int:
        """The result of a call that goes on when this task is cancelled; `withdraw` waits for it then."""
        self._call = asyncio.ensure_future(call)
        result = await asyncio.shield(self._call)
        self._call = None
        return result


def _wake(sleeper: asyncio.Future[None], *_: object) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
