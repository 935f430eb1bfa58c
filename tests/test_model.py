"""The catalog: what counts as a change, and what an instance's fields keep."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.model import Address, Catalog, Entry, Instance, moved, patched

ENTRIES = st.dictionaries(
    st.sampled_from("abcdef"), st.integers(1, 3).map(lambda n: Entry((Instance("10.0.0.1", n),))), max_size=6
)


def catalog(entries: dict[str, Entry]) -> Catalog:
    built = Catalog()
    for name, entry in entries.items():
        built = built.with_entry(name, entry)
    return built


@given(ENTRIES, ENTRIES)
def test_changed_since_names_exactly_what_differs(before: dict[str, Entry], after: dict[str, Entry]) -> None:
    expected = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
    assert set(catalog(after).changed_since(catalog(before))) == expected


def test_an_entry_that_is_replaced_leaves_the_others_as_the_same_objects() -> None:
    first = Catalog().with_entry("a", Entry(())).with_entry("b", Entry(()))
    second = first.with_entry("b", Entry((Instance("h", 1),)))
    assert second.entries["a"] is first.entries["a"]
    assert second.changed_since(first) == ("b",)
    assert second.without(frozenset({"a"})).changed_since(second) == ("a",)


@pytest.mark.parametrize(
    ("address", "text"),
    [(Address("127.0.0.1", 80), "127.0.0.1:80"), (Address("::1", 80), "[::1]:80"), (Address("db", 3306), "db:3306")],
)
def test_an_address_reads_as_clients_write_it(address: Address, text: str) -> None:
    assert str(address) == text


def test_labels_of_different_types_are_different_instances() -> None:
    texts = ['{"a":1}', '{"a":true}', '{"a":"1"}']
    assert len({Instance("h", 1, labels=text) for text in texts}) == 3


def test_a_port_as_text_is_still_an_address() -> None:
    assert Instance("h", "29001").address == Address("h", 29001)
    assert Instance("h", "29001") != Instance("h", 29001)


VALUES = [object() for _ in range(3)]
MAPS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(VALUES))


@given(MAPS, MAPS)
def test_a_patched_mapping_has_the_changes_and_keeps_its_order(
    before: dict[str, object], changes: dict[str, object]
) -> None:
    kept = dict(before)
    assert list(patched(MappingProxyType(before), changes).items()) == list({**kept, **changes}.items())
    assert before == kept


@given(MAPS, MAPS)
def test_what_moved_is_what_is_not_the_same_object(before: dict[str, object], now: dict[str, object]) -> None:
    expected = [key for key in now if key not in before or before[key] is not now[key]]
    assert moved(now, before) == expected
    assert moved({**before}, before) == []
