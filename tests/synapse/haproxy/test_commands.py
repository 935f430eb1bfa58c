"""Steps in the words of the Runtime API."""

from __future__ import annotations

from typing import get_args

import pytest

from dockstack.model import Address
from dockstack.synapse.haproxy.commands import Command, commands, told
from dockstack.synapse.haproxy.model import (
    Add,
    Cut,
    Delete,
    Drain,
    Maintain,
    Ready,
    Server,
    SetWeight,
    Step,
    Trust,
    capabilities,
)

OLD, NEW, NEWEST = (2, 6), (2, 8), (3, 2)
A = Server("a", Address("10.0.0.1", 80), 7, "a", "check inter 2s", 9)


def said(step: Step, version: tuple[int, int] = NEW) -> list[str]:
    return [one.line for one in commands(step, capabilities(version))]


def added(server: Server, version: tuple[int, int] = NEW, **how: object) -> str:
    return said(Add("b", server, **how), version)[0]  # type: ignore[arg-type]


def test_a_checked_server_is_added_checked_and_enabled() -> None:
    assert commands(Add("b", A), capabilities(NEW)) == (
        Command("add server b/a 10.0.0.1:80 id 7 cookie a check inter 2s weight 9", ("New server registered.",)),
        Command("enable health b/a"),
        Command("enable server b/a"),
    )


def test_what_is_switched_on_is_what_there_is() -> None:
    plain = Server("a", Address("::1", 80))
    assert said(Add("b", plain)) == ["add server b/a [::1]:80", "enable server b/a"]
    agent = Server("a", Address("::1", 80), options="agent-check agent-port 5")
    assert said(Add("b", agent))[1:] == ["enable agent b/a", "enable server b/a"]
    assert said(Add("b", plain, inherited="check"))[1:] == ["enable health b/a", "enable server b/a"]


def test_default_server_options_come_first() -> None:
    line = added(A, inherited="inter 9s rise 3")
    assert line == "add server b/a 10.0.0.1:80 id 7 cookie a inter 9s rise 3 check inter 2s weight 9"


def test_a_cookie_can_be_left_out() -> None:
    assert "cookie" not in added(A, OLD, cookie=False)


def test_words_without_effect_on_an_address_are_left_out() -> None:
    one = Server("a", Address("::1", 80), options="check resolvers dns init-addr none enabled backup")
    assert added(one, inherited="resolve-prefer ipv4") == "add server b/a [::1]:80 check backup"


def test_an_id_among_the_options_is_said_once() -> None:
    one = Server("a", Address("::1", 80), 77, options="check id 77")
    assert added(one) == "add server b/a [::1]:80 check id 77"


def test_a_careful_start_where_haproxy_has_one() -> None:
    assert added(A, NEWEST, cautious=True).endswith(" weight 9 init-state down")
    assert "init-state" not in added(A, NEW, cautious=True)


@pytest.mark.parametrize(
    ("step", "lines"),
    [
        (Ready("b", "a"), ["set server b/a state ready"]),
        (Ready("b", "a", True), ["enable health b/a", "set server b/a state ready"]),
        (Trust("b", "a"), ["set server b/a health up"]),
        (Drain("b", "a"), ["set server b/a state drain"]),
        (Maintain("b", "a"), ["set server b/a state maint"]),
        (Cut("b", "a"), ["shutdown sessions server b/a"]),
        (SetWeight("b", "a", 5), ["set server b/a weight 5"]),
        (SetWeight("b", "a", 999), ["set server b/a weight 256"]),
        (Delete("b", "a"), ["del server b/a"]),
    ],
)
def test_the_other_steps(step: Step, lines: list[str]) -> None:
    assert said(step) == lines


@pytest.mark.parametrize(
    ("replies", "reply", "accepted"),
    [
        (("",), "", True),
        (("",), "\n", True),
        (("",), "[6]: ", True),
        (("",), "No such server.\n", False),
        (("",), "[3]: No such server.", False),
        (("Server deleted.",), "[6]: Server deleted.\n\n", True),
        (("Server deleted.",), "Server deleted.", True),
        (("Server deleted.",), "", False),
        (("Server deleted.",), "[6]: Server deleted. Or so.", False),
        (("New server registered.",), "[4]: 'x' is ignored\nNew server registered.", False),
    ],
)
def test_only_the_known_replies_are_success(replies: tuple[str, ...], reply: str, accepted: bool) -> None:
    assert Command("x", replies).accepts(reply) is accepted


def test_every_step_can_be_told() -> None:
    steps = (
        Add("b", A),
        *(kind("b", "a") for kind in (Ready, Trust, Drain, Maintain, Cut, Delete)),
        SetWeight("b", "a", 1),
    )
    assert len({told(step) for step in steps}) == len(steps) == len(get_args(Step))
    assert told(steps[0]) == "a joins"
