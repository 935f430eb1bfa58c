"""Always up: a service that is registered as long as nerve runs."""

from __future__ import annotations

from dockstack.model import Address
from dockstack.nerve.checks import Check
from dockstack.settings.nerve import NoopCheck


def build(settings: NoopCheck, target: Address) -> Check:
    """The check; it has no settings of its own."""
    return nothing


async def nothing(target: Address) -> None:
    """Returns."""
