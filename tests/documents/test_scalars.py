"""Plain scalars mean what they meant to Ruby's Psych (its own scanner's rules, `psych/scalar_scanner.rb`)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dockstack.documents.scalars import psych


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("NULL", None),
        ("yes", True),
        ("On", True),
        ("TRUE", True),
        ("no", False),
        ("off", False),
        ("false", False),
        ("y", "y"),
        ("n", "n"),
        ("none", "none"),
        ("falsey", "falsey"),
        ("0", 0),
        ("-17", -17),
        ("+12", 12),
        ("1_000", 1000),
        ("1,000", 1000),
        ("0123", 83),
        ("0_17", 15),
        ("08", "08"),
        ("0o17", "0o17"),
        ("0x1F", 31),
        ("-0b101", -5),
        ("0.2", 0.2),
        (".5", 0.5),
        ("5.", 5.0),
        ("1.5e+3", 1500.0),
        ("1.5e3", "1.5e3"),
        ("1e3", "1e3"),
        ("1_0.5", 10.5),
        (".", "."),
        ("-", "-"),
        (".e+5", ".e+5"),
        ("9" * 5000, "9" * 5000),
        ("0x" + "f" * 5000, "0x" + "f" * 5000),
        ("10:30", 37800),
        ("1:30:15", 5415),
        ("-1:30", -1800),
        ("1:30.5", 5430.0),
        ("10:2181", "10:2181"),
        ("80:90", "80:90"),
        ("::1", "::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1:2181", "10.0.0.1:2181"),
        ("2026-11-24", "2026-11-24"),
        ("2026-11-24 10:00:00", "2026-11-24 10:00:00"),
        (":symbol", ":symbol"),
        ("=", "="),
        ("<<", "<<"),
        ("-Infinity", "-Infinity"),
        ("option httpchk GET /health", "option httpchk GET /health"),
    ],
)
def test_as_psych_reads_it(text: str, value: Any) -> None:
    got = psych(text)
    assert got == value
    assert type(got) is type(value)


def test_what_is_not_finite() -> None:
    assert psych(".inf") == psych("+.INF") == math.inf
    assert psych("-.Inf") == -math.inf
    assert math.isnan(psych(".NaN"))


@given(st.text(alphabet="0123456789+-._,:exbofnytrulas~ \n", max_size=8))
def test_no_text_breaks_it(text: str) -> None:
    assert isinstance(psych(text), str | int | float | bool | None)


@given(st.integers() | st.booleans() | st.none())
def test_what_yaml_writes_is_read_back(value: Any) -> None:
    assert psych(yaml.safe_dump(value).removesuffix("\n...\n").strip()) == value
