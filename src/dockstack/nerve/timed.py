"""An announcer that tells how long each of its writes took, for one service."""

from __future__ import annotations

from time import monotonic

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit
from dockstack.nerve.events import Renewed, Written
from dockstack.registry import Announcer, Lease, Locator, Registration

_ENCODED = "base64_"


class Timed:
    """Writes through to another announcer. The same registration again is the renewal of a persistent node."""

    __slots__ = ("_announcer", "_emit", "_last", "_locator", "lost")

    def __init__(self, announcer: Announcer, locator: Locator, emit: Emit) -> None:
        self._announcer = announcer
        self._locator = locator
        self._emit = emit
        self._last: Lease | None = None
        self.lost = announcer.lost

    @property
    def reachable(self) -> bool:
        """See the port."""
        return self._announcer.reachable

    async def put(self, registration: Registration) -> Lease:
        """See the port."""
        began = monotonic()
        last = self._last if self._last is not None and self.holds(self._last) else None
        again = last is not None and last.registration == registration and not registration.kind.ephemeral
        try:
            lease = self._last = await self._announcer.put(registration)
        except RegistryUnavailable:
            if again:
                self._emit(Renewed(self._locator, registration.path, done=False))
            raise
        if again:
            self._emit(Renewed(self._locator, registration.path, done=True))
            return lease
        kept = last is not None and (last.node, last.session) == (lease.node, lease.session)
        size = None if kept or not lease.node.startswith(_ENCODED) else int(lease.node.split("_")[1])
        seconds = monotonic() - began
        self._emit(Written(self._locator, registration.path, "save" if kept else "create", seconds, size))
        return lease

    async def remove(self, lease: Lease) -> None:
        """See the port."""
        began = monotonic()
        await self._announcer.remove(lease)
        self._last = None
        self._emit(Written(self._locator, lease.registration.path, "delete", monotonic() - began))

    def holds(self, lease: Lease) -> bool:
        """See the port."""
        return self._announcer.holds(lease)
