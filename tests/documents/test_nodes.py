"""YAML and JSON become plain data with lines; what is wrong is told with its place, all at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.documents import Document, parse
from dockstack.errors import ConfigurationError, Problem


def read(text: str) -> Document:
    return parse(text, "n.yaml", {})


def refusals(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        read(text)
    return [str(problem) for problem in raised.value.problems]


def test_values_know_their_lines() -> None:
    document = read("services:\n  mysql:\n    checks:\n      - type: tcp\n        fall: 2\n")
    assert document.data == {"services": {"mysql": {"checks": [{"type": "tcp", "fall": 2}]}}}
    assert document.where(("services", "mysql", "checks", 0, "fall")) == "n.yaml:5: services.mysql.checks[0].fall"
    assert document.where(("services", "mysql", "checks", 0, "rise")) == "n.yaml:4: services.mysql.checks[0].rise"
    assert document.where(("instance_id",)) == "n.yaml:1: instance_id"
    assert document.where(()) == "n.yaml:1"


def test_an_empty_text_is_an_empty_map() -> None:
    assert read("").data == read("# only a comment\n").data == read("---\n").data == {}


def test_every_duplicate_key_is_told() -> None:
    assert refusals("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n") == [
        "n.yaml:4: b.c: a duplicate key: it is already there, in line 3",
        "n.yaml:5: a: a duplicate key: it is already there, in line 1",
    ]
    assert refusals('{"a": 1,\n "a": 1}') == ["n.yaml:2: a: a duplicate key: it is already there, in line 1"]
    assert refusals("1: a\n'1': b\n") == ["n.yaml:2: 1: a duplicate key: it is already there, in line 1"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\n\tb: 2\n", "n.yaml:2:1"),
        ("a: [1, 2\nb: 3\n", "n.yaml:2:2"),
        ('{"a": 1,\n "b" 2}\n', "n.yaml:2:6"),
        ("a: *nowhere\n", "n.yaml:1:4"),
        ("a: 1\n---\nb: 2\n", "n.yaml:2:1"),
        ('a: "open\n', "n.yaml:2:1"),
        ("a: b: c\n", "n.yaml:1:5"),
        ("a: @x\n", "n.yaml:1:4"),
    ],
)
def test_a_syntax_error_is_one_line_with_its_place(text: str, place: str) -> None:
    (message,) = refusals(text)
    assert message.startswith(f"{place}: not valid YAML: ")
    assert "\n" not in message


def test_a_character_that_yaml_does_not_allow() -> None:
    (message,) = refusals("a: 1\nb: \x07\n")
    assert message.startswith("n.yaml:2")


def test_tabs_in_json_are_fine() -> None:
    assert read('{\n\t"a": [\n\t\t1\n\t],\n\t"b": "x\\/y"\n}\n').data == {"a": [1], "b": "x/y"}


def test_anchors_and_merges() -> None:
    text = """
base: &base {a: 1, b: {c: 2}}
other: &other {a: 9, d: 4}
one: {<<: *base, a: 5}
two:
  z: 0
  <<: [*base, *other]
three: *base
"""
    document = read(text)
    assert document.data["one"] == {"a": 5, "b": {"c": 2}}
    assert document.data["two"] == {"a": 1, "b": {"c": 2}, "d": 4, "z": 0}
    assert document.data["three"] == document.data["base"]
    assert document.where(("one", "a")) == "n.yaml:4: one.a"
    assert document.where(("two", "d")) == "n.yaml:3: two.d"
    assert document.where(("two", "z")) == "n.yaml:6: two.z"
    assert refusals("a: {<<: 5}") == ["n.yaml:1: a.<<: a merge needs a map, or a list of maps"]


def test_what_is_no_plain_data_is_refused() -> None:
    assert refusals("a: !ruby/object:X {}\nb: !!binary aGk=\nc: .inf\n? [d]\n: 1\n") == [
        "n.yaml:1: a: the tag !ruby/object:X is not supported",
        "n.yaml:2: b: the tag tag:yaml.org,2002:binary is not supported",
        "n.yaml:3: c: .inf is no finite number",
        "n.yaml:4: a key must be text, not a list or a map",
    ]
    assert refusals("- a\n") == ["n.yaml:1: the file must hold a map (`key: value`), not a list or a single value"]


def test_tags_of_plain_data_are_followed() -> None:
    assert read("a: !!str 5\nb: !!int '5'\nc: !!float 5\ne: !!bool yes\n").data == {
        "a": "5",
        "b": 5,
        "c": 5,
        "e": True,
    }
    assert refusals("a: !!int x\n") == ["n.yaml:1: a: 'x' does not fit its tag tag:yaml.org,2002:int"]


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: " + "[" * 70 + "]" * 70])
def test_what_has_no_end_is_refused(text: str) -> None:
    (message,) = refusals(text)
    assert "too deep or too large" in message


def test_a_small_text_does_not_become_huge() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9))
    (message,) = refusals(f"l0: &l0 [x]\n{levels}\n")
    assert "too deep or too large" in message


def test_a_key_that_yaml_reads_as_something_else_is_doubted() -> None:
    document = read("labels:\n  no: 1\n  8080: a\n  'on': 2\n")
    assert document.data == {"labels": {"false": 1, "8080": "a", "on": 2}}
    assert [str(doubt) for doubt in document.warnings] == [
        "n.yaml:2: labels.false: YAML reads the key no as false; quote it"
    ]


def test_a_part_is_set_into_a_document() -> None:
    whole = read("services:\n  a: {port: 1}\n  b: {port: 2}\n")
    part = parse("port: 3\nhost: x\n", "b.yaml", {})
    merged = whole.with_part(("services", "b"), part)
    assert merged.data == {"services": {"a": {"port": 1}, "b": {"port": 3, "host": "x"}}}
    assert merged.where(("services", "a", "port")) == "n.yaml:2: services.a.port"
    assert merged.where(("services", "b", "host")) == "b.yaml:2: services.b.host"
    assert whole.data["services"]["b"] == {"port": 2}
    assert read("").with_part(("services", "b"), part).data == {"services": {"b": {"port": 3, "host": "x"}}}


def test_a_problem_is_given_the_place_of_what_it_names() -> None:
    document = read("services:\n  a.b:\n    checks:\n    - type: tcp\n")
    for name, place in {
        "services.a.b.checks[0]": "n.yaml:4: ",
        "services.a.b.checks[0].uri": "n.yaml:4: ",
        "services.a.b.checks[7].uri": "n.yaml:3: ",
        "services.a.b.port": "n.yaml:2: ",
        "haproxy.global": "n.yaml:1: ",
    }.items():
        assert str(document.located(Problem(name, "no"))) == f"{place}{name}: no"


@pytest.mark.parametrize("text", ['a: {b: "x\\0"}', '{"a": {"b": "\\u0000"}}'])
def test_a_nul_character_is_refused_where_it_stands(text: str) -> None:
    assert refusals(text) == ["n.yaml:1: a.b: has a NUL character in it"]


def test_a_nul_character_in_a_key_is_refused() -> None:
    assert refusals('a: {"b\\0": 1}') == ["n.yaml:1: a: a key has a NUL character in it"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abcxyz", min_size=1), VALUES, max_size=4))
def test_json_is_read_as_written(data: dict[str, Any]) -> None:
    text = json.dumps(data, ensure_ascii=False)
    if "${" not in text and "<%" not in text:
        assert read(text).data == data


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000])
def test_a_text_of_brackets_is_refused_and_breaks_nothing(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        parse(text, "f", {})
