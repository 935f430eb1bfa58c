"""A world is one kind of registry with everything that can befall it: the contracts are the same in all of them."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import NoReturn, Protocol

from dockstack.registry import Lease, Registry


class NotApplicable(Exception):
    """This world knows no such fault: the contract has nothing to say about it, and the table shows `-`."""


def no(fault: str) -> NoReturn:
    raise NotApplicable(fault)


class World(Protocol):
    """A node's name in an argument is without its path."""

    @property
    def name(self) -> str:
        """The column of the table."""

    @property
    def patience(self) -> float:
        """Seconds within which a call must have raised RegistryUnavailable."""

    def registry(self) -> AbstractAsyncContextManager[Registry]:
        """A client with a session of its own."""

    def number(self, lease: Lease) -> int | None:
        """The id that the registry gives the node of this lease."""

    async def break_(self) -> None:
        """From now on nobody reaches the registry: connections are refused."""

    async def heal(self) -> None:
        """Everything works again, with what was there."""

    async def cut(self) -> None:
        """All connections are cut, once; the server stays."""

    async def cut_in_reply(self, after: int) -> asyncio.Event:
        """A connection ends when `after` bytes of the server's next answer have come through; set when it has."""

    async def silence(self) -> None:
        """From now on connections are accepted and never answered."""

    async def expire(self, registry: Registry) -> None:
        """The server ends this client's session."""

    async def restart(self) -> None:
        """The server is killed and started again, with its data."""

    async def write(self, path: str, name: str, data: bytes) -> None:
        """Somebody else writes a node that stays until the world ends."""

    async def fill(self, path: str, count: int) -> None:
        """Somebody else writes `count` instances, quickly: host 10.0.0.1, ports from 1."""

    async def delete(self, path: str, name: str) -> None:
        """Somebody else deletes a node."""

    async def nodes(self, path: str) -> dict[str, bytes]:
        """What is there, as a client that is not ours sees it, and directly at the server: name → data."""
