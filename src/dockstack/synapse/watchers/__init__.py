"""What follows one discovery source for one service: one module for each discovery method.

A module offers `build(settings, sessions, emit) -> Watcher`; `dockstack.plugins` finds it by the method's name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from dockstack.registry import Locator, Registry, Snapshot


class Watcher(Protocol):
    """What synapse needs of a discovery method."""

    def follow(self) -> AsyncIterator[Snapshot]:
        """The whole set as soon as it is known, then again after every change.

        Silent while the source cannot be asked; it never yields a set that was not read. Expected failures are
        retried inside. Slow consumers get the newest state.
        """


class Sessions(Protocol):
    """What a watcher needs of the pool of registry sessions."""

    async def get(self, locator: Locator) -> Registry:
        """The session for this locator, shared by all who ask for an equal one."""
