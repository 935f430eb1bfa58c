"""What a path holds, read at once or heard of change by change, is the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.model import Instance
from dockstack.registry.codec import NerveDecoder
from dockstack.registry.etcd.keys import quoted
from dockstack.registry.etcd.members import Members

GOOD = b'{"host":"10.0.0.1","port":80,"name":"i"}'
KEYS = ("/a", "/a-b", "/a/x_1", "/a/y_2", "/a/deep/z_3", "/a/", "/", "/x_4")
PATHS = pytest.mark.parametrize("path", ["/a", "/"])


class Store:
    """As etcd keeps keys: value, create revision, newest revision."""

    def __init__(self, path: str = "/a") -> None:
        self.path = path
        self.inside = f"{path.rstrip('/')}/"
        self.revision = 1
        self.keys: dict[str, tuple[bytes, int, int]] = {}

    def put(self, key: str, value: bytes) -> dict[str, Any]:
        self.revision += 1
        created = self.keys[key][1] if key in self.keys else self.revision
        self.keys[key] = value, created, self.revision
        return {"kv": self.fields(key)}

    def delete(self, key: str) -> dict[str, Any]:
        self.revision += 1
        self.keys.pop(key, None)
        return {"type": "DELETE", "kv": {"key": quoted(key), "mod_revision": str(self.revision)}}

    def fields(self, key: str) -> dict[str, Any]:
        value, created, changed = self.keys[key]
        fields = {"key": quoted(key), "create_revision": str(created), "mod_revision": str(changed)}
        return {**fields, "value": quoted(value)} if value else fields

    def answer(self) -> dict[str, Any]:
        inside = sorted(key for key in self.keys if key.startswith(self.inside))
        own = [self.fields(self.path)] if self.path in self.keys else []
        return {"responses": [{"response_range": {"kvs": kvs}} for kvs in (own, [*map(self.fields, inside)])]}

    def stamp(self) -> list[dict[str, Any]]:
        inside = sorted((self.keys[key][2], key) for key in self.keys if key.startswith(self.inside))
        newest = [self.fields(inside[-1][1])] if inside else []
        own = [self.fields(self.path)] if self.path in self.keys else []
        return [{"kvs": newest, "count": str(len(inside))}, {"kvs": own}]


def members(store: Store) -> Members:
    made = Members(store.path, NerveDecoder())
    made.read(store.answer())
    return made


CHANGES = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from([GOOD, b"{", b"", None])), max_size=12)


@PATHS
@given(before=CHANGES, changes=CHANGES)
def test_hearing_of_changes_is_as_good_as_reading(path: str, before: list[Any], changes: list[Any]) -> None:
    store = Store(path)
    for key, value in before:
        store.put(key, value) if value is not None else store.delete(key)
    heard = members(store)
    assert heard.stamp == heard.stamp_of(store.stamp())
    for key, value in changes:
        was = heard.snapshot()
        changed = heard.happened(store.put(key, value) if value is not None else store.delete(key))
        assert changed or heard.snapshot() == was
    assert heard.snapshot() == members(store).snapshot()
    assert heard.stamp == heard.stamp_of(store.stamp())


def test_an_instance_has_its_create_revision_as_id() -> None:
    store = Store()
    store.put("/a/x_1", GOOD)
    heard = members(store)
    heard.happened(store.put("/a/x_1", GOOD))
    assert heard.snapshot().instances == (Instance("10.0.0.1", 80, "i", id=2),)
    heard.happened(store.delete("/a/x_1"))
    assert heard.snapshot().instances == ()
    heard.happened(store.put("/a/x_1", GOOD))
    assert heard.snapshot().instances == (Instance("10.0.0.1", 80, "i", id=5),)


def test_a_change_that_was_not_heard_of_shows_in_the_stamp() -> None:
    store = Store()
    store.put("/a/x_1", GOOD)
    heard = members(store)
    store.put("/a/x_1", GOOD)
    assert heard.stamp != heard.stamp_of(store.stamp())
    heard = members(store)
    store.delete("/a/x_1")
    assert heard.stamp != heard.stamp_of(store.stamp())


def test_two_keys_that_are_no_text_stay_two() -> None:
    heard = Members("/a", NerveDecoder())
    kvs = [{"key": quoted(key), "mod_revision": "7", "value": quoted(b"{")} for key in (b"/a/\xfe", b"/a/\xff")]
    heard.read({"responses": [{"response_range": {}}, {"response_range": {"kvs": kvs, "count": "2"}}]})
    assert heard.stamp == heard.stamp_of([{"kvs": kvs[:1], "count": "2"}, {}])
    assert len(heard.snapshot().problems) == 2
    assert "\n".join(heard.snapshot().problems).encode()


def test_a_bad_node_is_named() -> None:
    store = Store()
    store.put("/a/bad_1", b"{")
    (problem,) = members(store).snapshot().problems
    assert problem.startswith("/a/bad_1: the data is not JSON")
