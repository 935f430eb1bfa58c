"""One watcher of a service: what is kept of what it has seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from dockstack.model import Instance
from dockstack.registry import Snapshot
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.source import BURST, Source

OWN = SynapseService.model_validate({"discovery": {"method": "base"}})


class Told:
    """Sees the sets that it is given, each so many seconds after the one before."""

    def __init__(self, *sets: tuple[float, str]) -> None:
        self._sets = sets

    async def follow(self) -> AsyncIterator[Snapshot]:
        for pause, names in self._sets:
            await asyncio.sleep(pause)
            yield Snapshot(tuple(Instance("10.0.0.1", 80, name) for name in names))


@pytest.mark.parametrize(
    ("sets", "kept"),
    [
        (((0, "abc"), (0, "")), "abc"),
        (((0, "abc"), (2 * BURST, "bc"), (0, "c"), (0, "")), "abc"),
        (((0, "abc"), (0, "bc"), (2 * BURST, "c"), (2 * BURST, "")), "c"),
        (((0, "abc"), (2 * BURST, "bc"), (0, "bcd"), (0, "d"), (0, "")), "bcd"),
        (((0, "ab"), (2 * BURST, "b"), (0, ""), (2 * BURST, "c"), (2 * BURST, "")), "c"),
        (((0, "ab"), (2 * BURST, ""), (2 * BURST, "")), "ab"),
        (((0, "abc"), (2 * BURST, "abd"), (0, "")), "abd"),
    ],
)
async def test_of_a_set_that_is_emptied_in_one_go_the_whole_is_kept(
    sets: tuple[tuple[float, str], ...], kept: str
) -> None:
    source = Source("web", "", OWN.watchers[""], Told(*sets), frozenset())
    async for _ in source.follow():
        found, _ = source.select(OWN)
    assert "".join(one.name or "" for one in found.entry.instances) == kept


class Configured:
    """Sees no instances, and these configurations."""

    def __init__(self, *data: bytes) -> None:
        self._data = data

    async def follow(self) -> AsyncIterator[Snapshot]:
        for each in self._data:
            yield Snapshot((), each)


async def test_configuration_that_cannot_be_used_is_said_once_and_keeps_the_last_good_one() -> None:
    good, other = b'{"haproxy": {"port": 1}}', b'{"haproxy": {"port": 2}}'
    data = (b"", good, good, b"{", b"{", b"", b"[]", other, b'{"file_output": {}}')
    source = Source("web", "x", OWN.watchers[""], Configured(*data), frozenset({"haproxy"}))
    seen = []
    async for unusable in source.follow():
        seen.append((unusable, source.config.encode(), bool(source.select(OWN)[1].problems)))
    assert seen == [
        (False, b"", False),
        (False, good, False),
        (False, good, False),
        (True, good, True),
        (False, good, True),
        (False, good, False),
        (True, good, True),
        (False, other, False),
        (True, other, True),
    ]


def test_a_watcher_among_several_is_called_by_its_name() -> None:
    titles = [Source("web", name, OWN.watchers[""], Told(), frozenset()).title for name in ("", "x")]
    assert titles == ["web", "web, watcher x"]
