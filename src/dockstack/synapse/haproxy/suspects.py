"""Which servers a file is refused for where HAProxy does not say it: what is new to it is left out on trial."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from dockstack.synapse.haproxy.model import Document

Suspect = tuple[str, str]
"""A service, and the name of one of its servers."""

MOST_LOOKS = 40
"""Trials; what is suspected then is left out as a whole. One guilty server of 5,000 needs 26 at most."""


def suspects(document: Document, taken: Document) -> tuple[Suspect, ...]:
    """The servers of a document that are not in the one that HAProxy took last, or are described otherwise there."""
    found: list[Suspect] = []
    for service, stanza in document.stanzas.items():
        before = taken.stanzas.get(service)
        known = frozenset() if before is None else frozenset(before.backend.servers)
        found += [(service, one.name) for one in stanza.backend.servers if one not in known]
    return tuple(found)


def without(document: Document, servers: Sequence[Suspect]) -> Document:
    """The document without these servers."""
    gone = frozenset(servers)
    stanzas = []
    for service in dict.fromkeys(service for service, _ in servers):
        stanza = document.stanzas[service]
        kept = tuple(one for one in stanza.backend.servers if (service, one.name) not in gone)
        stanzas.append(replace(stanza, backend=replace(stanza.backend, servers=kept)))
    return document.with_stanzas(*stanzas)


async def guilty(
    suspected: Sequence[Suspect], taken_without: Callable[[Sequence[Suspect]], Awaitable[bool]]
) -> tuple[Suspect, ...]:
    """Those of the suspected for whom the file is refused: none, where it is refused without all of them as well.

    `taken_without` says whether HAProxy takes the file without these servers.
    """
    if not suspected or not await taken_without(suspected):
        return ()
    looks = 1

    async def narrow(group: Sequence[Suspect], out: Sequence[Suspect]) -> tuple[Suspect, ...]:
        """The guilty ones of a group that holds some, while those in `out` are left out anyway."""
        nonlocal looks
        if len(group) == 1 or looks >= MOST_LOOKS:
            return tuple(group)
        half = len(group) // 2
        first, second = group[:half], group[half:]
        looks += 1
        if await taken_without((*out, *second)):
            return await narrow(second, out)
        looks += 1
        if await taken_without((*out, *first)):
            return await narrow(first, out)
        found = await narrow(first, (*out, *second))
        return (*found, *await narrow(second, (*out, *found)))

    return await narrow(suspected, ())
