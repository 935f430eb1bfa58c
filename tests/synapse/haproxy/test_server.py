"""One server line, read and written."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dockstack.model import Address
from dockstack.synapse.haproxy.model import Server
from dockstack.synapse.haproxy.server import (
    Meaning,
    address,
    is_address,
    is_disabled,
    make,
    meaning,
    named_id,
    read,
    same_options,
    weight,
    write,
)

WORDS = ["id", "5", "7", "cookie", "x", "check", "weight", "3", "50%", "disabled", "backup", "inter", "2s", "track"]


@pytest.mark.parametrize(
    ("line", "server"),
    [
        ("server a 10.0.0.1:80", Server("a", Address("10.0.0.1", 80))),
        (
            "server a_x:1 10.0.0.1:80 id 3 cookie a_x:1 check inter 2s weight 10 disabled",
            Server("a_x:1", Address("10.0.0.1", 80), 3, "a_x:1", "check inter 2s", 10, True),
        ),
        (
            "server a ::1:80 check weight 7 inter 2s",
            Server("a", Address("::1", 80), options="check weight 7 inter 2s"),
        ),
        ("server a 10.0.0.1:80 cookie a check id 77", Server("a", Address("10.0.0.1", 80), 77, "a", "check id 77")),
        ("server a 10.0.0.1:80 sni weight", Server("a", Address("10.0.0.1", 80), options="sni weight")),
        ("server a 10.0.0.1:80 check weight ²", Server("a", Address("10.0.0.1", 80), options="check weight ²")),
        ("server a 10.0.0.1:80 id ² check", Server("a", Address("10.0.0.1", 80), options="id ² check")),
        ("server a 10.0.0.1:80 sni disabled", Server("a", Address("10.0.0.1", 80), options="sni disabled")),
    ],
)
def test_a_line_is_read_and_written(line: str, server: Server) -> None:
    assert read(line) == server
    assert write(server) == line


@example(["id", "5", "id", "7", "check"])
@example(["id", "5", "cookie", "x", "id", "7", "disabled", "weight", "3"])
@given(st.lists(st.sampled_from(WORDS), max_size=9))
def test_what_is_written_is_read_as_the_same(words: list[str]) -> None:
    server = make("a", Address("10.0.0.1", 80), words)
    assert read(write(server)) == server


@given(st.lists(st.sampled_from(WORDS), max_size=9))
def test_no_word_is_lost_but_an_id_that_another_overrules(words: list[str]) -> None:
    written = write(make("a", Address("10.0.0.1", 80), words)).split()[3:]
    if words.count("id") < 2:
        assert sorted(written) == sorted(words)


@pytest.mark.parametrize("line", ["server a 10.0.0.1", "server a", "backend x y", 'server a 10.0.0.1:80 "x'])
def test_another_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any reason will do
        read(line)


def test_addresses() -> None:
    assert address("[fd00::1]:5") == Address("fd00::1", 5)
    assert address("fd00::1:5") == Address("fd00::1", 5)
    assert [is_address(one) for one in ("10.0.0.1", "::1", "db1", "10.0.0.999")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("inherited", "options", "expected"),
    [
        ("", "", Meaning(False, False, False, frozenset())),
        ("", "check", Meaning(True, False, False, frozenset({"check"}))),
        ("check", "no-check", Meaning(False, False, False, frozenset({"check", "no-check"}))),
        ("no-check", "check", Meaning(True, False, False, frozenset({"check", "no-check"}))),
        ("", "agent-check", Meaning(False, True, False, frozenset({"agent-check"}))),
        ("", "on-marked-down shutdown-sessions", Meaning(False, False, True, frozenset({"on-marked-down"}))),
        ("", "addr check", Meaning(False, False, False, frozenset({"addr"}))),
    ],
)
def test_what_options_come_to(inherited: str, options: str, expected: Meaning) -> None:
    assert meaning(Server("a", Address("::1", 1), options=options), inherited) == expected


@pytest.mark.parametrize(
    ("inherited", "line", "expected"),
    [
        ("", "check", 1),
        ("weight 9", "check", 9),
        ("weight 9", "check weight 4 inter 2s", 4),
        ("weight 9", "weight 4 check weight 5", 5),
        ("", "check weight 0", 0),
        ("", "check weight 50% backup", 50),
        ("", "sni weight", 1),
        ("", "check weight ²", 1),
        ("", f"check weight {'9' * 5000} backup", 9999999999),
    ],
)
def test_weights(inherited: str, line: str, expected: int) -> None:
    assert weight(read(f"server a 10.0.0.1:80 {line}"), inherited) == expected


def test_disabled_anywhere_counts_and_not_as_an_argument() -> None:
    lines = ("check disabled", "disabled check", "check", "sni disabled check")
    assert [is_disabled(read(f"server a 10.0.0.1:80 {one}")) for one in lines] == [True, True, False, False]


def test_the_id_among_options() -> None:
    assert [named_id(one) for one in ("check id 7", "id 3 id 9 x", "id 3 id x", "check id")] == [7, 9, 3, None]
    assert [named_id(one) for one in ("check", "sni id 4", "id x", "id ²", f"id {'9' * 5000}")] == [None] * 5


def test_options_are_compared_without_what_commands_can_change() -> None:
    assert same_options("check weight 3 inter 2s", "check  inter 2s disabled")
    assert not same_options("check inter 2s", "check inter 3s")
