"""What answers of DNS come to, as tables."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dockstack.model import NO_PORT, Instance
from dockstack.registry import Snapshot
from dockstack.synapse.lookups import Answer, Answers, Kind, Question, Service, questions, resolved

DB = Instance("db.test", 3306, "db", id=7, weight=3, haproxy_server_options="backup", labels='{"az":"a"}')
LITERAL = Instance("10.9.9.9", 80)
WEB = Instance("_web._tcp.test", NO_PORT, "web")
MEANWHILE = "what it had last stays in use"
LEFT_OUT = "it is left out until it can"


def q(name: str, kind: Kind) -> Question:
    return Question(name, kind)


def answers(a: Answer | None = None, aaaa: Answer | None = None, name: str = "db.test") -> dict[Question, Answer]:
    found = {q(name, "A"): a, q(name, "AAAA"): aaaa}
    return {question: one for question, one in found.items() if one is not None}


def has(*values: str | Service, fault: str | None = None) -> Answer:
    return Answer(values, fault)


def lost(fault: str) -> Answer:
    return Answer(None, fault)


def hosts(snapshot: Snapshot) -> list[str]:
    return [one.host for one in snapshot.instances]


def test_what_is_asked() -> None:
    both = (q("db.test", "A"), q("db.test", "AAAA"))
    assert questions([DB, LITERAL, DB], {}) == both
    assert questions([WEB], {}) == (q("_web._tcp.test", "SRV"),)
    targets = {q("_web._tcp.test", "SRV"): has(Service(0, 1, 80, "db.test"), Service(0, 1, 81, "."))}
    assert questions([WEB], targets) == (*both, q("_web._tcp.test", "SRV"))
    assert questions([replace(WEB, port=80)], {})[0].kind == "A"
    assert questions([replace(DB, port=NO_PORT)], {}) == both


@pytest.mark.parametrize(
    ("known", "found", "is_known", "problems"),
    [
        (answers(has("10.0.0.2", "10.0.0.1"), has("fd00::1")), ["10.0.0.1", "10.0.0.2", "fd00::1"], True, ()),
        (answers(has("10.0.0.10", "10.0.0.9"), has()), ["10.0.0.9", "10.0.0.10"], True, ()),
        (answers(), [], False, ()),
        (answers(has("10.0.0.1")), ["10.0.0.1"], True, ()),
        (answers(has()), [], False, ("the name db.test has no A records: nobody is served there",)),
        (
            answers(has(), has()),
            [],
            True,
            ("the name db.test has no A and no AAAA records: nobody is served there",),
        ),
        (
            answers(Answer((), exists=False), Answer((), exists=False)),
            [],
            True,
            ("the name db.test does not exist (NXDOMAIN): nobody is served there",),
        ),
        (
            answers(lost("NX"), lost("NX")),
            [],
            False,
            (f"the name db.test cannot be looked up (NX); {LEFT_OUT}",),
        ),
        (
            answers(has("10.0.0.1", fault="NX"), has(fault="NX")),
            ["10.0.0.1"],
            True,
            (f"the name db.test cannot be looked up (NX); {MEANWHILE}",),
        ),
        (
            answers(has("10.0.0.1"), lost("SERVFAIL")),
            ["10.0.0.1"],
            True,
            (f"the AAAA records of db.test cannot be looked up (SERVFAIL); {LEFT_OUT}",),
        ),
        (
            answers(has(), lost("SERVFAIL")),
            [],
            False,
            (f"the AAAA records of db.test cannot be looked up (SERVFAIL); {LEFT_OUT}",),
        ),
        (
            answers(has("10.0.0.1", fault="late"), has(fault="SERVFAIL")),
            ["10.0.0.1"],
            True,
            (
                f"the A records of db.test cannot be looked up (late); {MEANWHILE}",
                f"the AAAA records of db.test cannot be looked up (SERVFAIL); {LEFT_OUT}",
            ),
        ),
    ],
)
def test_the_addresses_of_a_name(known: Answers, found: list[str], is_known: bool, problems: tuple[str, ...]) -> None:
    result = resolved(Snapshot((DB,), b"{}", ("a node",)), known)
    assert hosts(result.snapshot) == found
    assert all(replace(one, host="db.test") == DB for one in result.snapshot.instances)
    assert (result.known, result.snapshot.problems) == (is_known, ("a node", *problems))
    assert result.snapshot.data == b"{}"


def test_no_order_of_the_answers_matters() -> None:
    addresses = [f"10.0.0.{number}" for number in range(20)]
    first = resolved(Snapshot((DB,)), answers(has(*addresses), has()))
    random.Random(1).shuffle(addresses)
    assert resolved(Snapshot((DB,)), answers(has(*addresses), has())) == first


def test_addresses_need_no_answer_and_one_name_is_independent_of_the_others() -> None:
    assert resolved(Snapshot((LITERAL, DB)), {}).snapshot.instances == (LITERAL,)
    assert resolved(Snapshot((LITERAL, DB)), {}).known
    assert resolved(Snapshot(()), {}).known
    other = replace(DB, host="other.test")
    found = resolved(
        Snapshot((DB, other)), answers(lost("NX"), lost("NX")) | answers(has("10.0.0.1"), name="other.test")
    )
    assert (hosts(found.snapshot), found.known, len(found.snapshot.problems)) == (["10.0.0.1"], True, 1)


def services(*records: Service, **more: Answer) -> dict[Question, Answer]:
    found = answers(has("10.0.0.1"), has(), "a.test") | answers(has("10.0.0.2", "10.0.0.3"), has(), "b.test")
    return found | {q("_web._tcp.test", "SRV"): has(*records)}


@pytest.mark.parametrize(
    ("records", "found", "known"),
    [
        ((Service(0, 0, 81, "a.test"),), [("10.0.0.1", 81, None, None)], True),
        (
            (Service(0, 1, 81, "a.test"), Service(0, 3, 82, "b.test")),
            [("10.0.0.1", 81, 1, None), ("10.0.0.2", 82, 3, None), ("10.0.0.3", 82, 3, None)],
            True,
        ),
        (
            (Service(0, 0, 81, "a.test"), Service(0, 1024, 82, "a.test"), Service(0, 512, 83, "a.test")),
            [("10.0.0.1", 81, 1, None), ("10.0.0.1", 83, 128, None), ("10.0.0.1", 82, 256, None)],
            True,
        ),
        (
            (Service(20, 0, 82, "a.test"), Service(10, 0, 81, "a.test")),
            [("10.0.0.1", 81, None, None), ("10.0.0.1", 82, None, "backup")],
            True,
        ),
        ((Service(0, 0, 81, "a.test"), Service(0, 0, 81, "unheard.test")), [("10.0.0.1", 81, None, None)], True),
        ((Service(0, 0, 81, "unheard.test"),), [], False),
        ((Service(0, 0, 81, "."),), [], True),
        ((), [], True),
    ],
)
def test_services(records: tuple[Service, ...], found: list[object], known: bool) -> None:
    result = resolved(Snapshot((WEB,)), services(*records))
    assert [(one.host, one.port, one.weight, one.haproxy_server_options) for one in result.snapshot.instances] == found
    assert {one.name for one in result.snapshot.instances} <= {"web"}
    assert result.known is known
    assert bool(result.snapshot.problems) == (not found and known)


def test_services_that_cannot_be_looked_up() -> None:
    result = resolved(Snapshot((WEB,)), {q("_web._tcp.test", "SRV"): lost("NX")})
    assert not result.known
    assert result.snapshot.problems == (f"the name _web._tcp.test cannot be looked up (NX); {LEFT_OUT}",)
