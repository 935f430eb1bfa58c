"""When names are asked for, on a clock that the tests turn."""

from __future__ import annotations

import pytest

from dockstack.model import NO_PORT, Instance
from dockstack.registry import Snapshot
from dockstack.synapse.agenda import ABSENT, AGAIN, FLOOR, HOLD, SHORTEST, Agenda
from dockstack.synapse.lookups import NOWHERE, Question, Records, Service

A = Question("db.test", "A")
AAAA = Question("db.test", "AAAA")


def members(*hosts: str, port: int = 80) -> Snapshot:
    return Snapshot(tuple(Instance(host, port) for host in hosts))


def agenda(*hosts: str, interval: float = 30, chance: float = 0) -> Agenda:
    made = Agenda(interval, lambda: chance)
    if hosts:
        made.take(members(*hosts))
    return made


@pytest.mark.parametrize(
    ("interval", "answer", "chance", "pause"),
    [
        (30, Records((), 300), 0, 30),
        (30, Records((), 300), 1, 22.5),
        (30, Records((), 10), 0, 10),
        (30, Records((), 0), 0, FLOOR),
        (2, Records((), 0), 0, 2),
        (0, Records((), 0), 0, SHORTEST),
        (30, "broken", 0, AGAIN),
        (1, "broken", 0, 1),
    ],
)
def test_the_pause_between_two_looks(interval: float, answer: Records | str, chance: float, pause: float) -> None:
    plan = agenda("db.test", interval=interval, chance=chance)
    assert plan.begin(100, 64) == (A, AAAA)
    assert plan.begin(100, 64) == ()
    plan.learn(A, answer, 100)
    plan.learn(AAAA, answer, 100)
    assert plan.wakes(100) == 100 + pause
    assert plan.begin(100 + pause - 0.01, 64) == ()
    assert plan.begin(100 + pause, 64) == (A, AAAA)


def test_so_many_at_once() -> None:
    plan = agenda("a.test", "b.test")
    first = plan.begin(0, 3)
    assert len(first) == 3
    assert plan.begin(0, 3) == ()
    assert plan.wakes(0) is None
    plan.learn(first[0], Records((), 60), 0)
    assert len(plan.begin(0, 3)) == 1


def test_nothing_before_there_are_members_and_all_at_once_then() -> None:
    plan = agenda()
    assert (plan.begin(0, 64), plan.wakes(0), plan.resolution(0)) == ((), None, None)
    plan.take(members("10.0.0.1"))
    found = plan.resolution(0)
    assert found is not None
    assert found.snapshot == members("10.0.0.1")


def test_a_set_waits_for_the_first_answers_about_each_name_but_not_for_ever() -> None:
    plan = agenda("a.test", "10.0.0.1")
    plan.begin(100, 64)
    assert plan.resolution(100) is None
    assert plan.wakes(100) == 100 + HOLD
    plan.learn(Question("a.test", "A"), Records(("10.0.0.2",), 60), 101)
    assert plan.resolution(101) is None
    late = plan.resolution(100 + HOLD)
    assert late is not None
    assert [one.host for one in late.snapshot.instances] == ["10.0.0.2", "10.0.0.1"]
    assert plan.wakes(100 + HOLD) == 131
    plan.learn(Question("a.test", "AAAA"), "broken", 106)
    whole = plan.resolution(106)
    assert whole is not None
    assert len(whole.snapshot.problems) == 1
    plan.take(members("b.test"))
    assert plan.resolution(200) is None


def test_a_failure_keeps_what_was_known_until_the_name_is_gone() -> None:
    plan = agenda("db.test")
    for answer in (Records(("10.0.0.1",), 60), "broken"):
        plan.learn(A, answer, 0)
        plan.learn(AAAA, Records((), 60), 0)
        found = plan.resolution(0)
        assert found is not None
        assert [one.host for one in found.snapshot.instances] == ["10.0.0.1"]
    plan.take(members("other.test"))
    plan.learn(A, Records(("10.0.0.9",), 60), 0)
    plan.take(members("db.test"))
    assert plan.resolution(0) is None
    assert plan.begin(0, 64) == (A, AAAA)


def test_that_a_name_does_not_exist_is_believed_when_it_is_said_for_long() -> None:
    plan = agenda("db.test")
    plan.learn(A, Records(("10.0.0.1",), 60), 0)
    plan.learn(AAAA, Records((), 60), 0)

    def hosts(now: float) -> list[str]:
        found = plan.resolution(now)
        assert found is not None
        assert found.known
        return [one.host for one in found.snapshot.instances]

    for now, answer in ((10, NOWHERE), (20, NOWHERE), (30, "broken"), (31, NOWHERE), (30.9 + ABSENT, NOWHERE)):
        plan.begin(now, 64)
        plan.learn(A, answer, now)
        assert hosts(now) == ["10.0.0.1"]
    assert plan.wakes(30.9 + ABSENT) == 30.9 + ABSENT + AGAIN
    plan.learn(A, NOWHERE, 31 + ABSENT)
    assert hosts(31 + ABSENT) == []
    assert plan.wakes(31 + ABSENT) == 31 + ABSENT + FLOOR
    plan.learn(A, Records(("10.0.0.2",), 60), 70)
    assert hosts(70) == ["10.0.0.2"]
    plan.learn(A, NOWHERE, 80)
    assert hosts(80) == ["10.0.0.2"]


def test_the_targets_of_services_are_names_of_their_own() -> None:
    plan = Agenda(30, lambda: 0)
    plan.take(members("_web._tcp.test", port=NO_PORT))
    question = Question("_web._tcp.test", "SRV")
    assert plan.begin(0, 64) == (question,)
    plan.learn(question, Records((Service(0, 0, 81, "db.test"),), 60), 0)
    assert plan.resolution(0) is None
    assert plan.begin(0, 64) == (A, AAAA)
    plan.learn(A, Records(("10.0.0.1",), 60), 0)
    plan.learn(AAAA, Records((), 60), 0)
    plan.learn(question, "broken", 30)
    found = plan.resolution(30)
    assert found is not None
    assert found.snapshot.instances == (Instance("10.0.0.1", 81),)


def test_an_answer_that_says_the_same_is_no_work() -> None:
    plan = agenda("db.test")
    answers = {A: Records(("10.0.0.1",), 60), AAAA: Records((), 60)}
    for question in plan.begin(0, 64):
        plan.learn(question, answers[question], 0)
    before = plan.resolution(0)
    assert before is not None
    for question in plan.begin(30, 64):
        plan.learn(question, answers[question], 30)
    assert plan.resolution(30) is before
    plan.learn(A, Records(("10.0.0.2",), 60), 60)
    after = plan.resolution(60)
    assert after is not None
    assert [one.host for one in after.snapshot.instances] == ["10.0.0.2"]


def test_names_are_asked_for_in_the_order_in_which_they_are_due() -> None:
    plan = agenda("a.test", "b.test")
    for at, question in enumerate(plan.begin(0, 64)):
        plan.learn(question, Records((), 60), 10 - at)
    assert plan.wakes(10) == 37
    assert plan.begin(36, 64) == ()
    assert [plan.wakes(now) for now in (36, 37, 38)] == [37, None, None]
    assert [(one.name[0], one.kind) for one in plan.begin(50, 3)] == [("b", "AAAA"), ("b", "A"), ("a", "AAAA")]
    assert plan.wakes(50) is None
    plan.take(members("a.test"))  # one is forgotten while it is being asked
    plan.learn(Question("b.test", "A"), Records((), 60), 50)
    assert [(one.name[0], one.kind) for one in plan.begin(50, 3)] == [("a", "A")]


def test_other_members_do_not_change_when_a_name_is_asked_for() -> None:
    plan = agenda("a.test", "b.test")
    for question in plan.begin(0, 64):
        plan.learn(question, Records((), 60), 10 if question.name == "a.test" else 5)
    plan.take(members("a.test", "b.test", port=81))
    assert plan.wakes(10) == 35
    assert [one.name for one in plan.begin(35, 64)] == ["b.test", "b.test"]


@pytest.mark.parametrize("goes", [False, True])
def test_how_long_a_name_is_absent_is_counted_while_it_is_a_members(goes: bool) -> None:
    plan = agenda("db.test")
    plan.begin(0, 64)
    plan.learn(AAAA, Records((), 60), 0)
    plan.learn(A, NOWHERE, 0)
    plan.take(members("x.test") if goes else members("db.test", "x.test"))
    plan.take(members("db.test"))
    plan.learn(AAAA, Records((), 60), ABSENT)
    plan.learn(A, NOWHERE, ABSENT)
    found = plan.resolution(ABSENT)
    assert found is not None
    assert found.known is not goes
