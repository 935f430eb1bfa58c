"""One file per kind of check. Each offers `build(settings, target)`, which returns a `Check`."""

from __future__ import annotations

from typing import Protocol

from dockstack.model import Address


class Unhealthy(Exception):
    """The service answered, and the answer says that it must not be used; the text is the reason."""


class Check(Protocol):
    """Asks one copy of a service how it is, over a connection of its own."""

    async def __call__(self, target: Address) -> None:
        """Returns when the service is healthy; raises Unhealthy, OSError or TimeoutError when it is not.

        It may be cancelled at any moment (its deadline is over) and must leave no connection behind then.
        """
