"""The log: what is said of a failure that is tried again and again."""

from __future__ import annotations

import logging
import os
from itertools import pairwise

import pytest

from dockstack import log
from dockstack.events import WARNING, Event, Note, Recovered, Retrying
from dockstack.log import Aside, Sparing, to_log
from dockstack.runtime.pace import LONGEST, SHORTEST


def record(event: Event, at: float) -> logging.LogRecord:
    made = logging.LogRecord("dockstack", event.level, "", 0, "%s", (event,), None)
    made.created = at
    return made


def told(sparing: Sparing, event: Event, times: list[float]) -> list[float]:
    """At which of these times the event is let through."""
    return [at for at in times if sparing.filter(record(event, at))]


RETRYING = Retrying("writing /x", "No space left on device", 1.0)


def test_the_first_failure_is_told_and_then_one_at_growing_distance() -> None:
    found = told(Sparing(), RETRYING, [float(second) for second in range(4000)])
    gaps = [after - before for before, after in pairwise(found)]
    assert found[0] == 0
    assert gaps[:6] == [SHORTEST, 20, 40, 80, 160, 320]
    assert set(gaps[6:]) == {LONGEST}


def test_the_end_is_told_and_the_next_failure_is_a_new_one() -> None:
    sparing = Sparing()
    assert told(sparing, RETRYING, [0, 1, 2]) == [0]
    assert told(sparing, Recovered("writing /x", 3.0), [3, 4]) == [3]
    assert told(sparing, RETRYING, [5, 6]) == [5]


def test_a_failure_that_was_not_heard_of_for_long_is_a_new_one() -> None:
    sparing = Sparing()
    told(sparing, RETRYING, [float(second) for second in range(1000)])
    assert told(sparing, RETRYING, [5000, 5001, 5010]) == [5000, 5010]


def test_two_things_that_fail_do_not_hide_each_other() -> None:
    sparing = Sparing()
    assert told(sparing, RETRYING, [0]) == [0]
    assert told(sparing, Retrying("registering web", "no answer", 1.0), [1, 2]) == [1]


def test_other_lines_are_let_through() -> None:
    sparing = Sparing()
    assert told(sparing, Note("all is well"), [0, 0, 0]) == [0, 0, 0]
    assert sparing.filter(logging.LogRecord("dockstack", WARNING, "", 0, "plain", None, None))


def test_an_event_is_a_line_with_its_level(caplog: pytest.LogCaptureFixture) -> None:
    to_log(RETRYING)
    (line,) = caplog.records
    assert (line.levelno, line.getMessage()) == (WARNING, str(RETRYING))


def test_a_log_that_nobody_reads_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MOST_WAITING", 100)
    reading, writing = os.pipe()
    aside = Aside(writing)
    for number in range(3000):  # more than a pipe holds
        aside.handle(record(Note(f"{number} {'x' * 100}"), 0.0))
    found = b""
    while b" lines of the log were lost before" not in found:
        found += os.read(reading, 65536)
        if found.count(b"\n") < 3000:
            aside.handle(record(Note("late"), 0.0))
    assert found.startswith(b"0 x")
    aside.finish()
    os.close(writing)
    os.close(reading)


def test_a_log_whose_reader_is_gone_holds_up_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    aside = Aside(writing)
    aside.handle(record(Note("x"), 0.0))
    aside.finish()
    os.close(writing)


def test_all_that_was_said_is_written_at_the_end() -> None:
    reading, writing = os.pipe()
    aside = Aside(writing)
    for number in range(100):
        aside.handle(record(Note(str(number)), 0.0))
    aside.finish()
    os.close(writing)
    with os.fdopen(reading) as file:
        assert file.read().split() == [str(number) for number in range(100)]
