"""The token bucket: what it grants, by table and as properties."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.nerve.limit import Bucket, filled, take
from dockstack.settings.nerve import RateLimiting


def granted(limits: dict[str, Any], moments: list[float]) -> list[bool]:
    bucket = filled(RateLimiting.model_validate(limits), 0.0)
    assert bucket is not None
    answers = []
    for moment in moments:
        bucket, answer = take(bucket, moment)
        answers.append(answer)
    return answers


@pytest.mark.parametrize(
    ("limits", "moments", "answers"),
    [
        # It starts with the tokens of one second, at most with a burst.
        ({"average_rate": 2}, [0, 0, 0], [True, True, False]),
        ({"average_rate": 5, "max_burst": 1}, [0, 0], [True, False]),
        ({"average_rate": 1}, [0, 0.5, 1.0, 1.5, 2.0], [True, False, True, False, True]),
        # Less than a token is no token.
        ({"average_rate": 0.5, "max_burst": 1}, [0, 0.9, 1.0, 1.1], [False, False, True, False]),
        # A rest is worth a burst and no more; without max_burst it is worth all of it.
        ({"average_rate": 1, "max_burst": 3}, [0, 100, 100, 100, 100], [True, True, True, True, False]),
        ({"average_rate": 1}, [0, 3, 3, 3, 3], [True, True, True, True, False]),
        ({"average_rate": 0}, [0, 1e9], [False, False]),
        # Asking too early costs nothing.
        ({"average_rate": 1, "max_burst": 1}, [0, 0.25, 0.5, 0.75, 1.0], [True, False, False, False, True]),
    ],
)
def test_what_is_granted(limits: dict[str, Any], moments: list[float], answers: list[bool]) -> None:
    assert granted(limits, moments) == answers


def test_without_a_rate_there_is_no_bucket() -> None:
    assert filled(RateLimiting(), 0.0) is None
    assert filled(RateLimiting(max_burst=1), 0.0) is None


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    bucket, answer = take(Bucket(1.0, 1.0, 0.0, 10.0), 5.0)
    assert not answer
    assert bucket.at == 10.0


RATES = st.floats(0.01, 100)
BURSTS = st.floats(1, 50)
STEPS = st.lists(st.floats(0, 10), min_size=1, max_size=60)


@given(RATES, BURSTS, STEPS)
def test_in_any_span_there_are_at_most_a_burst_and_the_rate(rate: float, burst: float, steps: list[float]) -> None:
    moments = [sum(steps[: at + 1]) for at in range(len(steps))]
    answers = granted({"average_rate": rate, "max_burst": burst}, moments)
    took = [moment for moment, answer in zip(moments, answers, strict=True) if answer]
    for first in range(len(took)):
        for last in range(first, len(took)):
            assert last - first + 1 <= burst + rate * (took[last] - took[first]) + 1e-6


@given(RATES, BURSTS, STEPS)
def test_who_waits_long_enough_is_granted(rate: float, burst: float, steps: list[float]) -> None:
    moments = [0.0]
    for step in steps:
        moments.append(moments[-1] + 1.001 / rate + step)
    answers = granted({"average_rate": rate, "max_burst": burst}, moments)
    assert all(answers[1:])
    assert all(after > before for before, after in pairwise(moments))
