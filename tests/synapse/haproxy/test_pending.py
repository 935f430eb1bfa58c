from __future__ import annotations

from dockstack.synapse.haproxy.model import Reason
from dockstack.synapse.haproxy.pending import REFUSED_AGAIN, Pending

A, B = Reason("a", "it is new"), Reason(None, "`global` changes")


def pending(interval: float = 2.0, jitter: float = 0.0) -> Pending:
    return Pending(interval, jitter, lambda: 0.5)


def test_without_a_reason_there_is_no_reload() -> None:
    assert pending().due_at() is None


def test_the_first_is_due_at_once() -> None:
    one = pending()
    one.note({"a": [A]})
    assert one.due_at() == 0.0
    assert one.reasons == (A,)


def test_a_reason_goes_when_its_service_is_looked_at_again() -> None:
    one = pending()
    one.note({"a": [A, A], "": [B]})
    assert one.reasons == (A, B)
    one.note({"b": []})
    assert one.reasons == (A, B)
    one.note({"a": [], "": []})
    assert one.due_at() is None


def test_after_a_reload_the_next_waits_for_the_interval_and_the_jitter() -> None:
    one = pending(jitter=0.5)
    one.note({"a": [A]})
    one.succeeded(100.0)
    assert one.due_at() is None
    one.note({"a": [A]})
    assert one.due_at() == 102.5


def test_a_refused_structure_is_left_alone_and_another_one_is_not() -> None:
    one = pending()
    one.note({"a": [A]})
    one.refused("bad", 100.0)
    assert one.due_at() == 102.0
    assert not one.postponed("good", 102.0)
    assert one.postponed("bad", 102.0)
    assert one.due_at() == 104.0
    assert not one.postponed("bad", 100.0 + REFUSED_AGAIN)


def test_what_was_refused_is_tried_again_at_once_after_another_reload() -> None:
    one = pending()
    one.note({"a": [A]})
    one.refused("bad", 100.0)
    one.succeeded(110.0)
    assert not one.postponed("bad", 112.0)


def test_without_an_interval_what_was_refused_is_not_looked_at_all_the_time() -> None:
    one = pending(interval=0.0)
    one.note({"a": [A]})
    one.refused("bad", 100.0)
    assert one.due_at() == 100.0
    assert one.postponed("bad", 100.0)
    assert one.due_at() == 100.5


def test_a_structure_whose_worker_did_not_come_up_is_tried_again_soon() -> None:
    one = pending(interval=0.0)
    one.note({"a": [A]})
    now, pauses = 0.0, []
    for _ in range(7):
        one.refused("good", now, surely=False)
        assert not one.postponed("another", now)
        assert one.postponed("good", now)
        again = next(second for second in range(100) if not one.postponed("good", now + second))
        pauses.append(again)
        now += again
    assert pauses == [2, 4, 8, 16, 32, 60, 60]


def test_a_reload_that_fails_is_tried_seldomer_each_time() -> None:
    one = pending(interval=0.0)
    one.note({"a": [A]})
    now, pauses = 0.0, []
    for _ in range(9):
        one.failed(now)
        due = one.due_at()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    one.succeeded(now)
    one.note({"a": [A]})
    one.failed(now)
    assert one.due_at() == now + 2
