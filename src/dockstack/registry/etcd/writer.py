"""Writes of all services together: what comes while a transaction is under way is in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dockstack.errors import RegistryUnavailable
from dockstack.registry.etcd.answers import NOT_FOUND, Refused
from dockstack.registry.etcd.gateway import Gateway
from dockstack.registry.etcd.keys import number

MOST = 60
"""Operations of one transaction; etcd's own limit is 128, those of inner transactions counted."""

_ENDING = "the registry is being closed"


@dataclass(frozen=True, slots=True, eq=False)
class _Wish:
    keys: frozenset[str]
    operations: tuple[Mapping[str, Any], ...]
    lease: int
    done: asyncio.Future[int]


class Writer:
    """`run` must be running as long as it is used."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._wishes: list[_Wish] = []
        self._alone = 0  # how many of the next wishes a transaction was refused for: each has one of its own
        self._news = asyncio.Event()

    async def write(self, keys: frozenset[str], operations: tuple[Mapping[str, Any], ...], lease: int = 0) -> int:
        """Carries out the operations in one transaction, and returns its revision.

        `keys` are those that they touch, `lease` is the one that they need.
        Raises RegistryUnavailable: it may have been done even so.
        """
        wish = _Wish(keys, operations, lease, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        self._news.set()
        try:
            return await wish.done
        finally:
            if wish in self._wishes:
                self._wishes.remove(wish)

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                while self._wishes:
                    await self._together(self._taken())
        finally:
            self._fail(self._wishes, RegistryUnavailable(_ENDING))

    def _taken(self) -> list[_Wish]:
        """The wishes of the next transaction, in order; a key may stand in it only once.

        All need the same lease: if that has ended, the whole is refused.
        """
        if self._alone:
            self._alone -= 1
            return [self._wishes.pop(0)]
        taken: list[_Wish] = []
        touched: set[str] = set()
        for wish in self._wishes:
            if len(taken) == MOST or touched & wish.keys or wish.lease != self._wishes[0].lease:
                break
            touched |= wish.keys
            taken.append(wish)
        del self._wishes[: len(taken)]
        return taken

    async def _together(self, wishes: list[_Wish]) -> None:
        try:
            revision = await self._transaction(wishes)
        except RegistryUnavailable as error:
            if not isinstance(error, Refused) or error.elsewhere:
                # Those that wait would wait as long again, one transaction after the other.
                self._fail((*wishes, *self._wishes), error)
            elif len(wishes) == 1 or error.code == NOT_FOUND:  # the lease that they all hang on
                self._fail(wishes, error)
            else:  # whose fault it is shows when each stands alone
                again = [one for one in wishes if not one.done.done()]
                self._wishes[:0] = again
                self._alone = len(again)
        except asyncio.CancelledError:
            self._fail(wishes, RegistryUnavailable(_ENDING))
            raise
        else:
            for one in wishes:
                if not one.done.done():
                    one.done.set_result(revision)

    async def _transaction(self, wishes: list[_Wish]) -> int:
        operations = [operation for wish in wishes for operation in wish.operations]
        answer = await self._gateway.call("kv/txn", {"success": operations})
        return number(answer.get("header", {}), "revision")

    def _fail(self, wishes: Sequence[_Wish], error: RegistryUnavailable) -> None:
        for one in wishes:
            if not one.done.done():
                one.done.set_exception(error)
        self._wishes = [one for one in self._wishes if not one.done.done()]
        self._alone = min(self._alone, len(self._wishes))
