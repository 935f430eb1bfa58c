"""The planner: that its steps lead there, on any version and from any state, and each row of its table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockstack.synapse.haproxy.effects import after, loaded
from dockstack.synapse.haproxy.model import (
    Add,
    Admin,
    Cut,
    Delete,
    Document,
    Drain,
    Maintain,
    Plan,
    Ready,
    Running,
    RunningBackend,
    RunningServer,
    Section,
    Server,
    SetWeight,
    Step,
    Trust,
    capabilities,
)
from dockstack.synapse.haproxy.plan import LONGEST_OPTIONS, MOST_ADDS, plan
from dockstack.synapse.haproxy.server import is_disabled
from tests.synapse.haproxy.worlds import PLAIN_OPTIONS, World, differences, document, server, serving, stanza, worlds

OLD, NEW, NEWEST = (2, 6), (2, 8), (3, 2)
MANY = settings(max_examples=400, deadline=None)


@MANY
@given(worlds(), st.booleans())
def test_the_steps_lead_to_what_is_wanted_unless_a_reload_is_due(world: World, cut: bool) -> None:
    found = plan(world.running, world.wanted, cut=cut)
    if not found.reload_reasons:
        assert differences(after(world.running, found.steps), world.wanted) == []


@MANY
@given(worlds())
def test_a_reached_state_plans_nothing_and_a_reload_leaves_nothing_to_send(world: World) -> None:
    found = plan(world.running, world.wanted)
    running = after(world.running, found.steps)
    again = plan(running, world.wanted)
    if not found.reload_reasons:
        assert again == Plan()
    # An id that a leaving server holds is free in the next round, and the next server's in the one after it.
    for _ in range(8):
        running = after(running, again.steps)
        again = plan(running, world.wanted)
    assert again.steps == ()


@MANY
@given(worlds())
def test_a_loaded_document_plans_nothing(world: World) -> None:
    assert not plan(loaded(world.wanted, world.running.capabilities), world.wanted)


@MANY
@given(worlds(PLAIN_OPTIONS))
def test_a_backend_that_serves_never_passes_through_having_no_server(world: World) -> None:
    def is_served(running: Running, name: str) -> bool:
        return any(one.up for one in serving(running, name).values())

    steps = plan(world.running, world.wanted).steps
    for one in world.wanted.stanzas.values():
        name = one.backend.name
        wishes = any(not is_disabled(each) for each in one.backend.servers)
        if wishes and is_served(world.running, name):
            for count in range(len(steps) + 1):
                assert is_served(after(world.running, steps[:count]), name)


@MANY
@given(worlds())
def test_only_servers_in_maintenance_are_deleted_and_never_on_2_6(world: World) -> None:
    running = world.running
    found = plan(running, world.wanted)
    for step in found.steps:
        if isinstance(step, Delete):
            assert running.capabilities.can_delete
            assert running.backends[step.backend].servers[step.name].admin is Admin.MAINT
        running = after(running, [step])


@MANY
@given(worlds())
def test_ids_stay_unique_in_the_process(world: World) -> None:
    running = after(world.running, plan(world.running, world.wanted).steps)
    for name in world.wanted.stanzas:
        found = running.backends.get(name, RunningBackend()).servers.values()
        ids = [one.server.id for one in found if one.server.id is not None]
        assert len(ids) == len(set(ids))


@MANY
@given(worlds())
def test_only_the_changed_services_are_looked_at(world: World) -> None:
    for name in world.wanted.stanzas:
        found = plan(world.running, world.wanted, [name])
        assert {step.backend for step in found.steps} <= {name}
        assert {one.service for one in found.reload_reasons} <= {name, None}
    assert plan(world.running, world.wanted, []).steps == ()


def world(
    version: tuple[int, int],
    before: Iterable[Server],
    wanted: Iterable[Server],
    lines: tuple[str, ...] = ("mode http",),
    states: dict[str, Admin] | None = None,
) -> tuple[Running, Document]:
    running = loaded(document(stanza("b", before, lines)), capabilities(version))
    for name, admin in (states or {}).items():
        moves: dict[Admin, Step] = {Admin.MAINT: Maintain("b", name), Admin.DRAIN: Drain("b", name)}
        running = after(running, [moves[admin]] if admin in moves else [])
    return running, document(stanza("b", wanted, lines))


A, B, C = server("a", 1), server("b", 2), server("c", 3)


def test_a_new_server_is_added_before_the_old_one_is_taken_out() -> None:
    assert plan(*world(NEW, [A], [B])) == Plan((Add("b", B), Maintain("b", "a")))


@pytest.mark.parametrize(
    ("lines", "options", "step"),
    [
        (("mode http",), "check", Maintain("b", "a")),
        (("mode tcp",), "check", Drain("b", "a")),
        (("mode tcp",), "check on-marked-down shutdown-sessions", Maintain("b", "a")),
        (("mode tcp", "default-server on-marked-down shutdown-sessions"), "check", Maintain("b", "a")),
        ((), "check", Maintain("b", "a")),
    ],
)
def test_how_a_server_leaves(lines: tuple[str, ...], options: str, step: Maintain | Drain) -> None:
    one = server("a", 1, options)
    assert plan(*world(NEW, [one, B], [B], lines)) == Plan((step,))
    assert plan(*world(NEW, [one, B], [B], lines), cut=True) == Plan((Maintain("b", "a"), Cut("b", "a")))


@pytest.mark.parametrize("admin", [Admin.MAINT, Admin.DRAIN])
@pytest.mark.parametrize(("options", "checked"), [("check", True), ("", False), ("check no-check", False)])
def test_a_server_that_comes_back_unchanged_is_only_made_ready(admin: Admin, options: str, checked: bool) -> None:
    one = server("a", 1, options)
    assert plan(*world(OLD, [one, B], [one, B], states={"a": admin})) == Plan((Ready("b", "a", checked),))


@pytest.mark.parametrize(
    ("before", "wanted", "step"),
    [
        ("check weight 10", "check weight 20", SetWeight("b", "a", 20)),
        ("check", "check weight 20", SetWeight("b", "a", 20)),
        ("check weight 20", "check", SetWeight("b", "a", 1)),
        ("check weight 7 inter 2s", "check inter 2s weight 0", SetWeight("b", "a", 0)),
    ],
)
def test_a_weight_is_set_and_nothing_else(before: str, wanted: str, step: SetWeight) -> None:
    assert plan(*world(OLD, [server("a", 1, before), B], [server("a", 1, wanted), B])) == Plan((step,))


def test_the_weight_that_default_server_gives_is_not_a_difference() -> None:
    assert not plan(*world(OLD, [A], [A], ("default-server weight 30",)))


@pytest.mark.parametrize(
    "changed",
    [server("a", 1, "check inter 9s"), server("a", 1, host="10.0.0.9"), server("a", 9), server("a", 1, port=81)],
)
def test_a_server_that_changes_under_its_name(changed: Server) -> None:
    steps = (Maintain("b", "a"), Delete("b", "a"), Add("b", changed))
    assert plan(*world(NEW, [A, B], [changed, B])) == Plan(steps)
    assert plan(*world(NEW, [A, B], [changed, B], states={"a": Admin.MAINT})) == Plan(steps[1:])
    assert "cannot delete" in str(plan(*world(OLD, [A, B], [changed, B])).reload_reasons)
    assert plan(*world(OLD, [A, B], [changed, B])).steps == ()
    alone = plan(*world(NEW, [A], [changed]))
    assert (alone.steps, "no other server" in str(alone.reload_reasons)) == ((), True)
    stuck = plan(*world(NEW, [A, B], [changed, B]), stuck=frozenset({("b", "a")}))
    assert (stuck.steps, "connections" in str(stuck.reload_reasons)) == ((), True)


def test_a_cookie_counts_only_where_there_is_a_cookie_directive() -> None:
    plain, named = server("a", 1, "cookie x check"), server("a", 1, "cookie y check")
    assert not plan(*world(NEW, [plain, B], [named, B]))
    assert plan(*world(NEW, [plain, B], [named, B], ("cookie SRV insert",))).steps[1:] == (
        Delete("b", "a"),
        Add("b", named),
    )


def test_2_6_adds_a_cookie_server_only_where_the_cookie_has_no_effect() -> None:
    named = server("c", 3, "cookie c check")
    assert plan(*world(OLD, [A], [A, named])) == Plan((Add("b", named, cookie=False),))
    refused = plan(*world(OLD, [A], [A, named], ("cookie SRV insert",)))
    assert (refused.steps, "`cookie`" in str(refused.reload_reasons)) == ((), True)
    assert plan(*world(NEW, [A], [A, named], ("cookie SRV insert",))) == Plan((Add("b", named),))


@pytest.mark.parametrize(
    ("version", "options", "why"),
    [
        (NEW, "check redir /x", "`redir`"),
        (NEW, "check track b/a", "`track`"),
        (NEW, "socks4 10.0.0.1:1 namespace x", "`namespace`, `socks4`"),
        (NEW, "guid x", "`guid`"),
        (NEW, "init-state down", "`init-state`"),
        (OLD, "shard 2", "`shard`"),
        (NEW, 'sni str("a b")', "quoted"),
        (NEW, r"check agent-send a\n", "quoted"),
        (NEW, "check ; disable server b/a", "quoted"),
        (NEW, "check <<", "quoted"),
        (NEW, "cookie a;quit check", "quoted"),
        (NEW, f"cookie {'x' * LONGEST_OPTIONS} check", "too many for a command"),
        (NEW, f"check sni {'x' * LONGEST_OPTIONS}", "too many for a command"),
    ],
)
def test_what_add_server_refuses_is_a_reload(version: tuple[int, int], options: str, why: str) -> None:
    found = plan(*world(version, [A], [A, server("c", 3, options)]))
    assert found.steps == ()
    assert why in str(found.reload_reasons)
    assert "service b: server c" in str(found.reload_reasons[0])


def test_nobody_leaves_for_a_server_that_haproxy_has_refused() -> None:
    new = server("c", 3)
    found = plan(*world(NEW, [A], [new]), refused=frozenset({("b", "c")}))
    assert found.steps == ()
    assert "HAProxy has refused it" in str(found.reload_reasons)


@pytest.mark.parametrize(
    "options", ["check resolvers dns init-addr none resolve-prefer ipv4", "check enabled", "sni req.hdr(x)"]
)
def test_words_without_effect_do_not_need_a_reload(options: str) -> None:
    assert isinstance(plan(*world((3, 0), [A], [A, server("c", 3, options)])).steps[0], Add)


@pytest.mark.parametrize(
    ("lines", "fixed"),
    [
        (("balance static-rr",), True),
        (("balance source",), True),
        (("balance source", "hash-type consistent"), False),
        (("balance uri depth 3",), True),
        (("balance hdr(host)",), True),
        (("balance leastconn",), False),
        (("balance random(2)",), False),
        ((), False),
    ],
)
def test_a_fixed_table_cannot_take_a_server(lines: tuple[str, ...], fixed: bool) -> None:
    found = plan(*world(NEW, [A], [A, C], lines))
    assert ("fixed table" in str(found.reload_reasons), found.steps == ()) == (fixed, fixed)


def test_too_many_at_once_are_a_reload() -> None:
    some = [server(f"s{number}", number) for number in range(10, 10 + MOST_ADDS)]
    assert len(plan(*world(NEW, [A], [A, *some])).steps) == MOST_ADDS
    found = plan(*world(NEW, [A], [A, *some, C]))
    assert (found.steps, "2001 servers" in str(found.reload_reasons)) == ((), True)


def test_who_serves_stays_while_nobody_wanted_can() -> None:
    """On 2.6 the new server waits for the reload: until then the old one is better than none."""
    named = server("c", 3, "cookie c check")
    found = plan(*world(OLD, [A], [named], ("cookie SRV insert",)))
    assert (found.steps, len(found.reload_reasons)) == ((), 1)
    assert plan(*world(OLD, [A, B], [A, named], ("cookie SRV insert",))).steps == (Maintain("b", "b"),)
    assert plan(*world(OLD, [A], [])).steps == (Maintain("b", "a"),)


def test_the_id_of_a_server_of_the_past_is_made_free_first() -> None:
    found = plan(*world(NEW, [A, B], [B, server("c", 1)], states={"a": Admin.MAINT}))
    assert found == Plan((Delete("b", "a"), Add("b", server("c", 1))))
    for version, state in ((OLD, Admin.MAINT), (NEW, Admin.READY)):
        found = plan(*world(version, [A, B], [B, server("c", 1)], states={"a": state}))
        assert "still that of a" in str(found.reload_reasons)


def test_servers_in_the_backends_own_lines_are_left_alone() -> None:
    lines = ("server x 10.0.0.7:1", "server-template t 1-2 10.0.0.8:1")
    running, wanted = world(NEW, [A], [A], lines)
    there = {name: RunningServer(server(name, None)) for name in ("x", "t1", "t2", "t3")}
    found = {**running.backends["b"].servers, **there}
    running = replace(running, backends=MappingProxyType({"b": RunningBackend(MappingProxyType(found))}))
    assert plan(running, wanted).steps == (Maintain("b", "t3"),)
    other = world(NEW, [A], [A], ("server x 10.0.0.7:1",))[1]  # the template goes with the reload
    assert plan(running, other).steps == (Maintain("b", "t3"),)
    assert plan(replace(running, loaded=other), wanted).steps == (Maintain("b", "t3"),)


def test_a_server_that_is_in_no_file_is_added_anew() -> None:
    running, wanted = world(NEW, [A, B], [A, B])
    foreign = {**running.backends["b"].servers, "a": RunningServer(A, known=False)}
    running = replace(running, backends=MappingProxyType({"b": RunningBackend(MappingProxyType(foreign))}))
    assert plan(running, wanted).steps == (Maintain("b", "a"), Delete("b", "a"), Add("b", A))
    trusted = plan(replace(running, loaded=None), wanted)
    assert (trusted.steps, len(trusted.reload_reasons)) == ((), 1)


def test_a_backend_without_servers_is_still_there() -> None:
    running, wanted = world(NEW, [], [A])
    assert plan(replace(running, backends=MappingProxyType({})), wanted) == Plan((Add("b", A),))


def test_a_careful_start_needs_somebody_who_serves_meanwhile() -> None:
    assert plan(*world(NEWEST, [A], [A, C])).steps == (Add("b", C, cautious=True),)
    assert plan(*world(NEWEST, [A], [C])).steps[0] == Add("b", C)
    plain = server("c", 3, "")
    assert plan(*world(NEWEST, [A], [A, plain])).steps == (Add("b", plain),)
    named = server("c", 3, "check init-state up")
    assert plan(*world(NEWEST, [A], [A, named])).steps == (Add("b", named),)


def waiting(running: Running, *names: str) -> Running:
    """The process in which these servers wait for their first good check."""
    servers = running.backends["b"].servers
    waits = {name: replace(one, up=name not in names) for name, one in servers.items()}
    return replace(running, backends=MappingProxyType({"b": RunningBackend(MappingProxyType(waits))}))


def test_one_that_waits_for_its_first_check_serves_at_once_where_the_last_other_goes() -> None:
    def steps(before: list[Server], wanted: list[Server], *names: str) -> tuple[Step, ...]:
        running, aim = world(NEWEST, before, wanted)
        return plan(waiting(running, *names), aim).steps

    changed = server("a", 1, "check inter 9s")
    assert steps([A, B], [B], "b") == (Trust("b", "b"), Maintain("b", "a"))
    assert steps([A, B], [B]) == (Maintain("b", "a"),)
    assert steps([A, B, C], [B, C], "b") == (Maintain("b", "a"),)
    assert steps([A, B], [changed, B], "b")[0] == Trust("b", "b")
    two = steps([A, B, C], [changed, B, server("c", 3, "check inter 9s")], "b")  # they stand in for each other
    assert [type(one) for one in two] == [Maintain, Delete, Add] * 2
    assert steps([A, B], [C, B], "b") == (Add("b", C), Maintain("b", "a"))
    assert steps([A, B], [A, B], "b") == steps([A, B], [A, B], "a", "b") == ()
    assert steps([A, B], [A], "a", "b") == (Maintain("b", "b"),)


def test_one_that_comes_back_waits_for_a_check_where_others_serve() -> None:
    assert plan(*world(NEWEST, [A, B], [A, B], states={"a": Admin.MAINT})).steps == (Ready("b", "a", True),)
    alone = plan(*world(NEWEST, [A], [A], states={"a": Admin.MAINT})).steps
    assert alone == (Ready("b", "a", True), Trust("b", "a"))
    assert plan(*world((3, 0), [A], [A], states={"a": Admin.MAINT})).steps == (Ready("b", "a", True),)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (document(stanza("b", [A]), stanza("n")), "service n: it is new"),
        (document(), "service b: it is gone"),
        (document(stanza("b", [A], port=2000)), "service b: its listening address changes"),
        (document(stanza("b", [A], ("mode tcp",))), "service b: its backend changes"),
        (document(stanza("b", [A]), defaults=("mode tcp",)), "`defaults` changes"),
        (document(stanza("b", [A]), tail=(Section("frontend shared-frontend"),)), "`frontend shared-frontend` changes"),
    ],
)
def test_what_only_a_reload_can_change_is_named(wanted: Document, reason: str) -> None:
    running = loaded(document(stanza("b", [A])), capabilities(NEW))
    assert reason in [str(one) for one in plan(running, wanted).reload_reasons]


def test_another_frontend_line_is_not_another_address() -> None:
    before = stanza("b", [A])
    assert before.frontend is not None
    changed = replace(before, frontend=Section(before.frontend.title, (*before.frontend.lines, "maxconn 5")))
    running = loaded(document(before), capabilities(NEW))
    assert [str(one) for one in plan(running, document(changed)).reload_reasons] == ["service b: its frontend changes"]


def test_membership_does_not_wait_for_the_reload() -> None:
    running = loaded(document(stanza("b", [A])), capabilities(NEW))
    found = plan(running, document(stanza("b", [A, C]), stanza("n", [A])))
    assert (found.steps, len(found.reload_reasons)) == ((Add("b", C),), 1)


def test_the_rules_are_those_of_the_loaded_backend_until_the_reload() -> None:
    running = loaded(document(stanza("b", [A, B], ("mode tcp",))), capabilities(NEW))
    assert plan(running, document(stanza("b", [B], ("mode http",)))).steps == (Drain("b", "a"),)


def test_cutting_sessions_leaves_the_server_as_it_is() -> None:
    running, _ = world(NEW, [A], [A])
    assert after(running, [Cut("b", "a")]).backends == running.backends
