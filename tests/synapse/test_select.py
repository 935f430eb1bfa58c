"""Which instances a service is given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.model import NO_PORT, Entry, Instance
from dockstack.registry import Snapshot
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.select import Selection, default_instances, select

A, B, C = (Instance(f"10.0.0.{number}", 3000, name, number) for number, name in enumerate("abc", 1))
D1 = {"host": "10.5.0.1", "port": 5001, "name": "d1"}
D2 = {"host": "10.5.0.2", "port": "5002", "labels": {"az": "1"}, "weight": 3, "id": 9}
DEFAULTS = (
    Instance("10.5.0.1", 5001, "d1"),
    Instance("10.5.0.2", "5002", id=9, weight=3, labels='{"az":"1"}'),
)


def service(filters: list[dict[str, Any]] | None = None, **settings: Any) -> SynapseService:
    discovery = {"method": "base", "label_filters": filters or []}
    return SynapseService.model_validate({"discovery": discovery, **settings})


def chosen(own: SynapseService, *found: Instance, previous: tuple[Instance, ...] | None = None) -> tuple[Instance, ...]:
    before = None if previous is None else Entry(previous)
    return select("svc", own, Snapshot(found), before).entry.instances


def test_what_is_found_is_served_in_its_order() -> None:
    assert chosen(service(default_servers=[D1]), B, A) == (B, A)


def test_default_servers_as_instances() -> None:
    assert default_instances(service(default_servers=[D1, D2]).default_servers) == DEFAULTS


@pytest.mark.parametrize(
    ("settings", "previous", "expected"),
    [
        ({}, None, ()),
        ({}, (A, B), (A, B)),
        ({"use_previous_backends": False}, (A, B), ()),
        ({"default_servers": [D1, D2]}, (A, B), DEFAULTS),
        ({"default_servers": [D1, D2], "keep_default_servers": True}, (A, B), DEFAULTS),
    ],
)
def test_an_empty_set(settings: dict[str, Any], previous: tuple[Instance, ...] | None, expected: Any) -> None:
    assert chosen(service(**settings), previous=previous) == expected


def test_that_the_previous_ones_stay_is_said() -> None:
    for before, words in (((A, B), "the last 2 stay in service"), ((A,), "the last one stays in service")):
        assert words in select("svc", service(), Snapshot(()), Entry(before)).problems[0]
    assert select("svc", service(), Snapshot((A,)), Entry((A, B))).problems == ()
    assert select("svc", service(), Snapshot(()), Entry(())).problems == ()


@pytest.mark.parametrize("flag", [True, False])
def test_never_heard_of_is_not_empty(flag: bool) -> None:
    own = service(default_servers=[D1, D2], use_previous_backends=flag)
    assert select("svc", own, None, None) == Selection(Entry(DEFAULTS))
    assert select("svc", own, None, Entry((A,))) == Selection(Entry((A,)))
    assert select("svc", own, None, Entry(())) == Selection(Entry(()))


def test_kept_default_servers_stand_behind_the_found_ones() -> None:
    own = service(default_servers=[D1], keep_default_servers=True)
    assert chosen(own, A) == (A, DEFAULTS[0])
    twin = Instance("10.5.0.1", 5001, "d1", 4)
    assert chosen(own, twin) == (twin,)


@pytest.mark.parametrize("settings", [{"backend_port_override": 99}, {"haproxy": {"server_port_override": 99}}])
def test_a_port_override_is_for_what_is_found_and_for_kept_default_servers(settings: dict[str, Any]) -> None:
    own = service(default_servers=[D1], **settings)
    assert [one.port for one in chosen(own, A, B)] == [99, 99]
    assert [one.port for one in chosen(own)] == [5001]
    kept = service(default_servers=[D1], keep_default_servers=True, **settings)
    assert [one.port for one in chosen(kept, A)] == [99, 99]


def test_what_has_no_port_needs_an_override_and_is_named_without() -> None:
    host = Instance("10.0.0.9", NO_PORT)
    assert chosen(service(backend_port_override=80), host) == (Instance("10.0.0.9", 80),)
    selection = select("svc", service(), Snapshot((A, host)), None)
    assert selection.entry.instances == (A,)
    assert selection.problems == ("service svc: left out for want of a backend_port_override: 10.0.0.9",)


def test_the_newer_override_counts_and_ports_that_become_equal_collapse() -> None:
    own = service(backend_port_override="98", haproxy={"server_port_override": 99})
    two = (Instance("h", 1, "x", 1), Instance("h", 2, "x", 2))
    assert [one.port for one in chosen(own, *two)] == ["98"]


def test_doubles_are_one_the_newest() -> None:
    old, new, text = Instance("h", 1, "x", 3), Instance("h", 1, "x", 9, weight=5), Instance("h", "1", "x", 4)
    other, nameless = Instance("h", 1, "y", 1), Instance("h", 1, None, 1)
    assert chosen(service(), old, new, text, other, nameless, Instance("h", 1, "")) == (new, other, nameless)
    assert chosen(service(), new, old) == (new,)
    first, zero = Instance("h", 1, "x", weight=1), Instance("h", 1, "x", 0)
    assert chosen(service(), first, Instance("h", 1, "x", weight=2)) == (first,)
    assert chosen(service(), first, zero) == chosen(service(), zero, first) == (zero,)
    assert chosen(service(), zero, Instance("h", 1, "x", 0, weight=2)) == (zero,)


AZ1, AZ2, NONE = (
    Instance(host, 1, labels=labels) for host, labels in (("a", '{"az":"1"}'), ("b", '{"az":"2"}'), ("c", None))
)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([{"label": "az", "value": "1"}], (AZ1,)),
        ([{"label": "az", "value": "1", "condition": "not-equals"}], (AZ2, NONE)),
        ([{"label": "az", "value": "1"}, {"label": "az", "value": "2"}], ()),
        (
            [
                {"label": "az", "value": "1", "condition": "not-equals"},
                {"label": "az", "value": "2", "condition": "not-equals"},
            ],
            (NONE,),
        ),
        ([{"label": "az", "value": 1}], ()),
    ],
)
def test_label_filters_must_all_hold(filters: list[dict[str, Any]], expected: tuple[Instance, ...]) -> None:
    assert chosen(service(filters), AZ1, AZ2, NONE) == expected


@pytest.mark.parametrize(
    ("label", "value", "equal"),
    [
        ('"1"', "1", True),
        ("1", 1, True),
        ("1", "1", False),
        ("1", True, False),
        ("true", True, True),
        ("true", "true", False),
        ("true", 1, False),
        ("1.0", 1, True),
        ("null", None, True),
        ("[1]", [1], True),
        ("0", False, False),
    ],
)
def test_label_values_compare_with_their_type(label: str, value: Any, equal: bool) -> None:
    one = Instance("h", 1, labels=f'{{"x":{label}}}')
    assert bool(chosen(service([{"label": "x", "value": value}]), one)) is equal
    assert bool(chosen(service([{"label": "x", "value": value, "condition": "not-equals"}]), one)) is not equal


def test_emptiness_is_judged_before_the_filters() -> None:
    own = service([{"label": "az", "value": "1"}], default_servers=[D1, D2])
    assert chosen(own, AZ2, previous=(AZ1,)) == ()
    assert chosen(own, previous=(AZ1,)) == (DEFAULTS[1],)


def test_the_old_single_filter_adds_up() -> None:
    discovery = {
        "method": "base",
        "label_filter": {"label": "az", "value": "1"},
        "label_filters": [{"label": "x", "value": 1}],
    }
    own = SynapseService.model_validate({"discovery": discovery})
    both = Instance("h", 1, labels='{"az":"1","x":1}')
    assert chosen(own, AZ1, both) == (both,)


def test_the_leader_has_the_smallest_number() -> None:
    own = service(leader_election=True)
    assert chosen(own, C, A, B) == (A,)
    assert chosen(own, previous=(A,)) == (A,)


@pytest.mark.parametrize(
    ("found", "why"), [((A, Instance("h", 1)), "an instance has no id"), ((), "there is no instance")]
)
def test_without_a_number_for_each_there_is_no_leader_and_nobody_is_served(
    found: tuple[Instance, ...], why: str
) -> None:
    result = select("svc", service(leader_election=True), Snapshot(found), None)
    assert result.entry == Entry(())
    assert f"no leader can be elected, because {why}" in result.problems[0]


def test_the_leader_is_elected_among_those_that_pass() -> None:
    own = service([{"label": "az", "value": "2"}], leader_election=True)
    low, high = Instance("h", 1, id=1, labels='{"az":"1"}'), Instance("h", 2, id=2, labels='{"az":"2"}')
    assert chosen(own, low, high) == (high,)


def test_nodes_that_were_skipped_are_named() -> None:
    assert select("svc", service(), Snapshot((A,), problems=("x: bad",)), None).problems == ("x: bad",)


@given(st.lists(st.sampled_from((A, B, C, AZ1, AZ2)), max_size=6), st.booleans(), st.booleans())
def test_selecting_again_from_the_result_changes_nothing(found: list[Instance], keep: bool, leader: bool) -> None:
    own = service(leader_election=leader, keep_default_servers=keep, default_servers=[D2])
    once = select("svc", own, Snapshot(tuple(found)), None).entry
    assert select("svc", own, None, once).entry == once or leader
