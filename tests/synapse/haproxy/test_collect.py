from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType

from dockstack.model import Address
from dockstack.synapse.haproxy.collect import FIRST, SELDOMEST, Leaving
from dockstack.synapse.haproxy.effects import after, loaded
from dockstack.synapse.haproxy.model import (
    Admin,
    Backend,
    Cut,
    Delete,
    Document,
    Drain,
    Maintain,
    Ready,
    Running,
    Server,
    Stanza,
    capabilities,
)

NEW, OLD = capabilities((2, 8)), capabilities((2, 6))


def document(*names: str, disabled: tuple[str, ...] = ()) -> Document:
    servers = tuple(Server(name, Address("127.0.0.1", 80), disabled=name in disabled) for name in (*names, *disabled))
    return Document(stanzas=MappingProxyType({"s": Stanza("s", None, Backend("b", servers=servers))}))


def running(new: bool = True) -> Running:
    return loaded(document("one", "two"), NEW if new else OLD)


def test_who_is_wanted_is_left_alone() -> None:
    leaving = Leaving(100)
    leaving.note(running(), document("one", "two"), ["s"], 0)
    assert leaving.next_look() is None


def test_a_draining_server_goes_to_maintenance_when_its_sessions_have_ended_and_then_is_deleted() -> None:
    leaving = Leaving(100)
    now = after(running(), [Drain("b", "one")])
    leaving.note(now, document("two"), ["s"], 0)
    assert leaving.next_look() == FIRST
    assert leaving.ripe(now, FIRST / 2) == ()
    ripe = leaving.ripe(now, FIRST)
    assert ripe == ((("b", "one"), Admin.DRAIN),)
    assert leaving.steps(ripe, {("b", "one"): 3}, now, FIRST) == ()
    look = leaving.next_look()
    assert look is not None
    ripe = leaving.ripe(now, look)
    assert leaving.steps(ripe, {("b", "one"): 0}, now, look) == (Maintain("b", "one"),)
    now = after(now, [Maintain("b", "one")])
    ripe = leaving.ripe(now, look + FIRST)
    assert leaving.steps(ripe, {}, now, look + FIRST) == (Delete("b", "one"),)
    now = after(now, [Delete("b", "one")])
    leaving.ripe(now, look + 100)
    assert leaving.next_look() is None


def test_nothing_is_ever_deleted_on_an_old_haproxy() -> None:
    leaving = Leaving(100)
    now = after(running(new=False), [Drain("b", "one")])
    leaving.note(now, document("two"), ["s"], 0)
    ripe = leaving.ripe(now, FIRST)
    assert leaving.steps(ripe, {("b", "one"): 0}, now, FIRST) == (Maintain("b", "one"),)
    assert leaving.next_look() is None
    now = after(now, [Maintain("b", "one")])
    leaving.note(now, document("two"), ["s"], 5)
    assert leaving.next_look() is None


def test_draining_has_a_limit() -> None:
    leaving = Leaving(10)
    now = after(running(), [Drain("b", "one")])
    leaving.note(now, document("two"), ["s"], 0)
    assert leaving.steps(leaving.ripe(now, 9), {("b", "one"): 1}, now, 9) == ()
    assert leaving.steps(leaving.ripe(now, 99), {("b", "one"): 1}, now, 99) == (Maintain("b", "one"), Cut("b", "one"))


def test_sessions_of_a_server_in_maintenance_have_the_same_limit() -> None:
    leaving = Leaving(10)
    now = after(running(), [Maintain("b", "one")])
    leaving.note(now, document("two"), ["s"], 0)
    assert leaving.steps(leaving.ripe(now, 9), {}, now, 9) == (Delete("b", "one"),)
    assert leaving.steps(leaving.ripe(now, 99), {}, now, 99) == (Cut("b", "one"), Delete("b", "one"))


def test_sessions_that_are_not_known_are_no_reason_to_go_on() -> None:
    leaving = Leaving(100)
    now = after(running(), [Drain("b", "one")])
    leaving.note(now, document("two"), ["s"], 0)
    assert leaving.steps(leaving.ripe(now, 1), {}, now, 1) == ()


def test_looks_become_seldom_up_to_a_limit() -> None:
    leaving = Leaving(10_000)
    now = after(running(), [Drain("b", "one")])
    leaving.note(now, document("two"), ["s"], 0)
    times = [0.0]
    for _ in range(8):
        look = leaving.next_look()
        assert look is not None
        leaving.ripe(now, look)
        times.append(look)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == [1, 2, 4, 8, 16, SELDOMEST, SELDOMEST, SELDOMEST]


def test_one_that_comes_back_is_forgotten() -> None:
    leaving = Leaving(100)
    now = after(running(), [Drain("b", "one")])
    leaving.note(now, document("two"), ["s"], 0)
    now = after(now, [Ready("b", "one")])
    leaving.note(now, document("one", "two"), ["s"], 1)
    assert leaving.next_look() is None


def test_the_limit_runs_from_the_departure_and_not_from_the_last_change() -> None:
    leaving = Leaving(10)
    now = after(running(), [Drain("b", "one")])
    for moment in range(9):
        leaving.note(now, document("two"), ["s"], moment)
    steps = leaving.steps(leaving.ripe(now, 10.5), {("b", "one"): 1}, now, 10.5)
    assert steps == (Maintain("b", "one"), Cut("b", "one"))


def test_one_that_the_file_lists_as_disabled_is_not_deleted() -> None:
    leaving = Leaving(100)
    now = after(running(), [Maintain("b", "one")])
    leaving.note(now, document("two", disabled=("one",)), ["s"], 0)
    assert leaving.next_look() is None


def test_servers_of_the_backends_own_lines_are_nobodys() -> None:
    leaving = Leaving(100)
    wanted = document("two")
    backend = replace(wanted.stanzas["s"].backend, static=frozenset({"one"}))
    wanted = Document(stanzas=MappingProxyType({"s": Stanza("s", None, backend)}))
    leaving.note(after(running(), [Maintain("b", "one")]), wanted, ["s"], 0)
    assert leaving.next_look() is None


def test_the_first_that_is_due_is_looked_at_and_each_has_its_own_limit() -> None:
    leaving = Leaving(100)
    now = after(running(), [Drain("b", "one")])
    leaving.note(now, document("two"), ["s"], 1000)
    now = after(now, [Drain("b", "two")])
    leaving.note(now, document(), ["s"], 1050)
    assert leaving.next_look() == 1000 + FIRST
    assert leaving.steps(leaving.ripe(now, 1099), {("b", "one"): 1, ("b", "two"): 1}, now, 1099) == ()
    ripe = leaving.ripe(now, 1149)
    assert [name for name, _ in ripe] == [("b", "one"), ("b", "two")]
    assert leaving.steps(ripe, {("b", "one"): 1, ("b", "two"): 1}, now, 1149) == (Maintain("b", "one"), Cut("b", "one"))


def test_one_that_serves_again_by_somebody_elses_hand_is_no_more_looked_at() -> None:
    leaving = Leaving(100)
    now = after(running(), [Drain("b", "one")])
    leaving.note(now, document("two"), ["s"], 0)
    now = after(now, [Ready("b", "one")])
    assert leaving.ripe(now, FIRST) == ()
    assert leaving.next_look() is None


def test_one_that_the_file_lists_as_disabled_ends_its_draining() -> None:
    leaving = Leaving(100)
    now = after(running(), [Drain("b", "one")])
    leaving.note(now, document("two", disabled=("one",)), ["s"], 0)
    assert leaving.steps(leaving.ripe(now, FIRST), {("b", "one"): 0}, now, FIRST) == (Maintain("b", "one"),)
