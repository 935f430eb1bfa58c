from __future__ import annotations

from typing import Any

import pytest

from dockstack.model import Instance
from dockstack.registry import NodeKind, Registration
from dockstack.registry.etcd.keys import below, common, directory, end_of, name_of, number, quoted, unquoted, within


@pytest.mark.parametrize(
    ("path", "inside"), [("/a/b", "/a/b/"), ("/a/b/", "/a/b/"), ("a//b", "/a/b/"), ("/", "/"), ("", "/")]
)
def test_the_directory_of_a_path(path: str, inside: str) -> None:
    assert directory(path) == inside


def test_a_range_ends_before_the_next_directory() -> None:
    assert end_of("/a/") == "/a0"
    assert within("/a/") == {"key": quoted("/a/"), "range_end": quoted("/a0")}
    assert below("/a") == {"key": quoted("/a"), "range_end": quoted("/a0")}
    between = ["/a", "/a-b", "/a/x", "/a0"]  # what lies between the path's own key and its members is not of the path
    assert sorted(between) == between


@pytest.mark.parametrize(
    ("directories", "place"),
    [
        ((), "/"),
        (("/a/b/",), "/a/b/"),
        (("/a/b/", "/a/c/"), "/a/"),
        (("/a/b/", "/a/b/c/"), "/a/b/"),
        (("/a/bc/", "/a/b/"), "/a/"),
        (("/a/", "/b/"), "/"),
        (("/",), "/"),
    ],
)
def test_the_directory_that_all_lie_in(directories: tuple[str, ...], place: str) -> None:
    assert common(frozenset(directories)) == place


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (NodeKind.EPHEMERAL_SEQUENTIAL, "i-1_000000000000beef_7"),
        (NodeKind.PERSISTENT_SEQUENTIAL, "i-1_000000000000beef_7"),
        (NodeKind.EPHEMERAL, "i-1_"),
        (NodeKind.PERSISTENT, "i-1_"),
    ],
)
def test_the_name_of_a_key(kind: NodeKind, name: str) -> None:
    assert name_of(Registration("s", "/p", Instance("h", 1, "i-1"), kind), 0xBEEF, 7) == name


@pytest.mark.parametrize(("fields", "value"), [({}, 0), ({"ttl": "12"}, 12), ({"ttl": 3}, 3), ({"ttl": "-1"}, -1)])
def test_numbers_come_as_text_or_not_at_all(fields: dict[str, Any], value: int) -> None:
    assert number(fields, "ttl") == value


def test_bytes_come_back() -> None:
    assert unquoted(quoted(b"\0\xff")) == b"\0\xff"
    assert unquoted("") == b""
