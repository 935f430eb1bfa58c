"""Which watchers of a service count, and what they come to."""

from __future__ import annotations

import pytest

from dockstack.model import Entry, Instance
from dockstack.settings.synapse import BaseResolver, SequentialResolver, UnionResolver
from dockstack.synapse.resolve import Found, Resolved, resolve


def entry(*names: str, weight: int | None = None) -> Entry:
    return Entry(tuple(Instance("h", 80, name, weight=weight) for name in names))


UNION = UnionResolver(method="union")


def test_one_watcher_is_the_service() -> None:
    assert resolve(None, {"": Found(False, entry("a"), "c")}) == Resolved(entry("a"), "c")


def test_a_union_has_them_all_and_the_first_configuration() -> None:
    found = {"x": Found(True, entry("a")), "y": Found(True, entry("b"), "y"), "z": Found(False, entry("c"), "z")}
    assert resolve(UNION, found) == Resolved(entry("a", "b", "c"), "y")


def test_what_two_watchers_have_is_one_instance_as_the_last_describes_it() -> None:
    found = {"x": Found(True, entry("a", "b")), "y": Found(True, entry("a", weight=3))}
    assert resolve(UNION, found).entry == Entry((*entry("a", weight=3).instances, *entry("b").instances))


@pytest.mark.parametrize(
    ("x", "y", "chosen"),
    [
        (Found(True, entry("a")), Found(True, entry("b")), "y"),
        (Found(True, entry("a")), Found(True, entry()), "x"),
        (Found(True, entry("a")), Found(False, entry("b")), "x"),
        (Found(False, entry("a")), Found(False, entry("b")), "y"),
        (Found(True, entry()), Found(True, entry()), "y"),
        (Found(False, entry("a")), Found(True, entry()), "y"),
    ],
)
def test_the_first_that_is_up_and_has_instances(x: Found, y: Found, chosen: str) -> None:
    resolver = SequentialResolver(method="sequential", sequential_order=("y", "x"))
    found = {"x": x, "y": y}
    assert resolve(resolver, found) == Resolved(found[chosen].entry, found[chosen].config, chosen)


def test_the_base_resolver_serves_nobody() -> None:
    assert resolve(BaseResolver(method="base"), {"x": Found(True, entry("a"), "c")}) == Resolved(Entry(()))
