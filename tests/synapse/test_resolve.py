"""Which watchers of a service count, and what they come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.model import Entry, Instance
from dockstack.settings.multi import BaseResolver, S3ToggleResolver, SequentialResolver, UnionResolver
from dockstack.synapse.resolve import LARGEST, Draw, Found, Resolved, adopted, draw, resolve


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


TOGGLE = S3ToggleResolver(method="s3_toggle", s3_url="s3://bucket/a/key", s3_polling_interval_seconds=5)
DRAWN = Draw("x", {"x": 1, "y": 1})


def test_the_file_of_a_toggle() -> None:
    assert TOGGLE.file == ("bucket", "a/key")


def test_a_toggle_uses_the_primary_until_another_is_drawn() -> None:
    found = {"primary": Found(True, entry("a"), "c"), "y": Found(False, entry("b"), "d")}
    assert resolve(TOGGLE, found) == Resolved(entry("a"), "c", "primary")
    assert resolve(TOGGLE, found, "y") == Resolved(entry("b"), "d", "y")


@pytest.mark.parametrize(
    ("number", "watcher"), [(0.0, "x"), (0.2, "x"), (0.26, "z"), (0.99, "z"), (0.9999999999999999, "z")]
)
def test_a_draw_goes_by_the_weights(number: float, watcher: str) -> None:
    assert draw(Draw(), b"x: 1\ny: 0\nz: 3\n", lambda: number) == Draw(watcher, {"x": 1, "y": 0, "z": 3})


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**20)), st.floats(0, 1, exclude_max=True))
def test_only_what_has_a_weight_is_drawn(weights: dict[str, int], number: float) -> None:
    content = "".join(f"{name}: {weight}\n" for name, weight in weights.items()).encode()
    drawn = draw(Draw(), content, lambda: number)
    assert weights[drawn.watcher] > 0 if drawn.watcher else not sum(weights.values())


@pytest.mark.parametrize("large", [2**53 + 1, 10**400])
def test_weights_may_be_of_any_size(large: int) -> None:
    content = f"x: {large}\ny: {large}\n".encode()
    chances = iter((0.0, 0.49, 0.5, 1 - 2**-53))
    drawn = [draw(Draw(), content, lambda: next(chances)).watcher for _ in range(4)]
    assert drawn == ["x", "x", "y", "y"]


def test_a_name_that_is_none_and_an_empty_one_are_the_same() -> None:
    one, other = Instance("h", 1, None, weight=1), Instance("h", "1", "", weight=2)
    found = {"x": Found(True, Entry((one,))), "y": Found(True, Entry((other,)))}
    assert resolve(UNION, found).entry == Entry((other,))


def test_equal_weights_are_no_reason_to_draw_again() -> None:
    assert draw(DRAWN, b"{y: 1, x: 1}", lambda: 0.9) == DRAWN
    assert draw(DRAWN, b"{y: 2, x: 1}", lambda: 0.5) == Draw("y", {"x": 1, "y": 2})


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "zero_sum"),
        (b"x: 0", "zero_sum"),
        (b"{", "parse_error"),
        (b"\xff", "parse_error"),
        (b"[x]", "parse_error"),
        (b"x: 1\nx: 2", "parse_error"),
        (b"[" * 1000, "parse_error"),
        (b"x: 1 # " + b"-" * LARGEST, "parse_error"),
        (b"x: -1", "invalid_schema"),
        (b"x: 1.0", "invalid_schema"),
        (b"x: '1'", "invalid_schema"),
        (b"x: true", "invalid_schema"),
        (b"x: [1]", "invalid_schema"),
        (b"x:", "invalid_schema"),
    ],
)
def test_a_bad_file_keeps_what_was_drawn_and_is_named(content: bytes, fault: str) -> None:
    kept = draw(DRAWN, content, lambda: 0.9)
    assert (kept.watcher, kept.weights, kept.fault) == (DRAWN.watcher, DRAWN.weights, fault)
    assert kept.problem
    assert draw(kept, b"{x: 1, y: 1}", lambda: 0.9) == DRAWN


@pytest.mark.parametrize(
    ("drawn", "watcher", "problems"),
    [
        (Draw(), "primary", ()),
        (Draw("y", {"y": 1}), "y", ()),
        (Draw("z", {"z": 1}), "primary", ("the watcher z was drawn, and there is none of this name; primary stays",)),
        (Draw("y", {"y": 1}, "zero_sum", "zero"), "y", ("zero; the watcher stays as it is",)),
    ],
)
def test_what_a_service_makes_of_a_draw(drawn: Draw, watcher: str, problems: tuple[str, ...]) -> None:
    assert adopted(drawn, "primary", {"primary": 1, "y": 1}) == (watcher, problems)
