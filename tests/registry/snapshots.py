"""Waiting for what a watch sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from dockstack.registry import Snapshot


async def until(
    snapshots: AsyncIterator[Snapshot], condition: Callable[[Snapshot], bool], what: str, limit: float = 10.0
) -> Snapshot:
    """The first snapshot for which the condition holds; TimeoutError says `what` and the last one after `limit` s."""
    last: Snapshot | None = None
    try:
        async with asyncio.timeout(limit):
            async for last in snapshots:
                if condition(last):
                    return last
    except TimeoutError:
        raise TimeoutError(f"{what}: not within {limit:g} s; the last snapshot was {last}") from None
    raise AssertionError("the watch has ended")


def ports(snapshot: Snapshot) -> list[int]:
    """The instances' ports, sorted."""
    return sorted(int(instance.port) for instance in snapshot.instances)


async def until_ports(snapshots: AsyncIterator[Snapshot], wanted: list[int], limit: float = 10.0) -> Snapshot:
    """The first snapshot with exactly these ports."""
    return await until(snapshots, lambda snapshot: ports(snapshot) == wanted, f"ports {wanted}", limit)
