"""Rise and fall, by tables and against the buffer by which SmartStack's nerve decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.nerve.judge import History, Rule, all_up, judge


def beliefs(results: str, rule: Rule) -> str:
    """What is believed after each result; `+` healthy or up, `-` not, `?` nothing yet."""
    history, said = History(), ""
    for result in results:
        history = judge(history, result == "+", rule)
        said += {True: "+", False: "-", None: "?"}[history.up]
    return said


@pytest.mark.parametrize(
    ("rule", "results", "believed"),
    [
        (Rule(), "+-+-", "+-+-"),
        (Rule(rise=3, fall=2), "+-+--+++-", "++++---++"),
        (Rule(rise=3, fall=2), "-++-+++", "------+"),
        (Rule(fall=3), "+--+---", "++++++-"),
        (Rule(rise=3, strict_rise=True), "+++-", "??+-"),
        (Rule(rise=3, strict_rise=True), "++-+++", "??---+"),
        (Rule(rise=3, fall=3, strict_rise=True), "-+++", "---+"),
        (Rule(rise=1, strict_rise=True), "+", "+"),
    ],
)
def test_what_is_believed(rule: Rule, results: str, believed: str) -> None:
    assert beliefs(results, rule) == believed


@given(st.text("+-", min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_it_decides_as_the_buffer_of_smartstacks_nerve(results: str, rise: int, fall: int) -> None:
    buffer, up, believed = results[0] * max(rise, fall), results[0], ""
    for result in results:
        buffer = (buffer + result)[-max(rise, fall) :]
        if set(buffer[-rise:]) == {"+"}:
            up = "+"
        elif set(buffer[-fall:]) == {"-"}:
            up = "-"
        believed += up
    assert beliefs(results, Rule(rise, fall)) == believed


@given(st.text("+-", max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_strict_rise_only_delays_the_first_verdict(results: str, rise: int, fall: int) -> None:
    strict = beliefs(results, Rule(rise, fall, strict_rise=True))
    undecided = strict.count("?")
    assert strict[:undecided] == "?" * undecided
    assert undecided < rise
    assert set(results[:undecided]) <= {"+"}


@pytest.mark.parametrize(
    ("ups", "service"),
    [((), True), ((True,), True), ((True, False), False), ((None, True), None), ((False, None), False)],
)
def test_a_service_is_up_when_each_check_is(ups: tuple[bool | None, ...], service: bool | None) -> None:
    assert all_up(History(up) for up in ups) is service
