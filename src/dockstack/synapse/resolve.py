"""Several watchers of one service become one: which of them count, and what they come to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dockstack.model import Entry, Instance
from dockstack.settings.synapse import BaseResolver, SequentialResolver, UnionResolver


@dataclass(frozen=True, slots=True)
class Found:
    """What one watcher has come to: whether its source has answered, its entry, and the last configuration there."""

    up: bool
    entry: Entry
    config: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the watchers are together. `watcher` is the one that was chosen, where one is."""

    entry: Entry
    config: str = ""
    watcher: str | None = None


def resolve(
    resolver: BaseResolver | UnionResolver | SequentialResolver | None, watchers: Mapping[str, Found]
) -> Resolved:
    """The one that these watchers are together; without a resolver there is one only.

    An instance that several watchers have is one instance: the last of them describes it.
    """
    match resolver:
        case None:
            (only,) = watchers.values()
            return Resolved(only.entry, only.config)
        case SequentialResolver():
            name = _first(resolver.sequential_order, watchers)
            return Resolved(watchers[name].entry, watchers[name].config, name)
        case UnionResolver():
            every = tuple(watchers.values())
            configs = (one.config for one in every if one.config)
            return Resolved(_together([one.entry for one in every]), next(configs, ""))
        case BaseResolver():
            return Resolved(Entry(()))


def _first(order: Sequence[str], watchers: Mapping[str, Found]) -> str:
    serving = (name for name in order if watchers[name].up and watchers[name].entry.instances)
    return next(serving, order[0])


def _together(entries: Sequence[Entry]) -> Entry:
    found: dict[tuple[str, str, str], Instance] = {}
    for entry in entries:
        for one in entry.instances:
            found[one.host, str(one.port), one.name or ""] = one
    return Entry(tuple(found.values()))
