"""The one lease of a process: granted when it is first needed, kept alive, and another one after its end.

Only etcd's word ends it: without an answer we do not know, and go on asking.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

from dockstack.errors import RegistryUnavailable
from dockstack.events import Emit
from dockstack.registry.etcd.events import LeaseLost
from dockstack.registry.etcd.gateway import Gateway
from dockstack.registry.etcd.keys import number
from dockstack.runtime.shared import Shared

_AGAIN = 0.25
"""Seconds between two tries to keep it alive when no answer came."""

_REVOKE = 1.0
"""Seconds that the withdrawal of everything may take at the end."""


class Tenure:
    """`ttl`: seconds that etcd keeps what is registered when it no longer hears of us (whole seconds, rounded up)."""

    def __init__(self, gateway: Gateway, ttl: float, on_lost: Callable[[int], None], emit: Emit) -> None:
        self._gateway = gateway
        self._ttl = max(1, math.ceil(ttl))
        self._on_lost = on_lost
        self._emit = emit
        self._grants: Shared[int] = Shared()
        self._granted = asyncio.Event()
        self.current: int | None = None

    async def lease(self) -> int:
        """The lease that lives now. Raises RegistryUnavailable."""
        if self.current is None:
            return await self._grants.call(self._grant)
        return self.current

    def lose(self, lease: int) -> None:
        """etcd says that there is no such lease."""
        if lease != self.current:
            return
        self.current = None
        self._granted.clear()
        self._emit(LeaseLost(lease))
        self._on_lost(lease)

    async def run(self) -> None:
        """Keeps it alive, for ever."""
        while True:
            await self._granted.wait()
            await asyncio.sleep(self._ttl / 3)
            while (lease := self.current) is not None:
                try:
                    answer = await self._gateway.call("lease/keepalive", {"ID": str(lease)})
                except RegistryUnavailable:
                    await asyncio.sleep(_AGAIN)
                    continue
                result = answer.get("result", {})
                if number(result, "ID") != lease:  # not about it: nothing is known
                    await asyncio.sleep(_AGAIN)
                    continue
                # An unknown lease is no error there: the answer has no TTL then.
                if number(result, "TTL") <= 0:
                    self.lose(lease)
                break

    async def revoke(self) -> None:
        """Withdraws everything, if etcd can be reached soon."""
        if self.current is None:
            return
        lease, self.current = self.current, None
        with suppress(TimeoutError, RegistryUnavailable):
            async with asyncio.timeout(_REVOKE):
                await self._gateway.call("lease/revoke", {"ID": str(lease)})

    async def _grant(self) -> int:
        lease = number(await self._gateway.call("lease/grant", {"TTL": self._ttl}), "ID")
        if not lease:  # with 0 what is registered would never end
            raise RegistryUnavailable("etcd granted a lease without a number: trying again")
        self.current = lease
        self._granted.set()
        return lease
