"""Pauses and beats, as properties."""

from __future__ import annotations

from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from dockstack.runtime.pace import LONGEST, SHORTEST, Reminder, next_beat, pauses


@given(st.floats(0.01, 100), st.floats(0, 1))
def test_the_first_retry_is_at_once_and_no_pause_is_above_the_cap(cap: float, luck: float) -> None:
    seen = list(islice(pauses(cap, lambda: luck), 30))
    assert seen[0] == 0
    assert all(0 < pause <= cap for pause in seen[1:])
    assert seen[-1] >= cap / 2


def test_pauses_double() -> None:
    assert list(islice(pauses(1.0, lambda: 1.0), 7)) == [0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0]


@given(st.floats(0, 1e6), st.floats(0.01, 100), st.floats(0, 1e4))
def test_the_next_beat_is_after_now_within_one_interval_and_on_the_grid(
    start: float, interval: float, late: float
) -> None:
    now = start + late
    beat = next_beat(start, interval, now)
    assert now <= beat <= now + interval * 1.001 + 1e-6
    steps = (beat - start) / interval
    assert abs(steps - round(steps)) < 1e-3


@given(st.floats(0, 1e6), st.floats(0.001, 1e3), st.integers(0, 10_000))
def test_the_next_beat_is_later_than_a_beat_that_is_now(start: float, interval: float, number: int) -> None:
    now = start + number * interval
    assert now < next_beat(start, interval, now) <= now + 1.001 * interval + 1e-6


def test_a_reminder_is_due_at_once_and_then_at_growing_distance() -> None:
    reminder = Reminder()
    found = [second for second in range(4000) if reminder.due(second)]
    gaps = [after - before for before, after in pairwise(found)]
    assert found[0] == 0
    assert gaps[:6] == [SHORTEST, 20, 40, 80, 160, 320]
    assert set(gaps[6:]) == {LONGEST}
