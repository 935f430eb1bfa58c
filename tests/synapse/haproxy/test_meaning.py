"""What a backend's lines mean for its servers."""

from __future__ import annotations

import pytest

from dockstack.synapse.haproxy.meaning import backend, defaults_of, static_ids
from dockstack.synapse.haproxy.model import Section


@pytest.mark.parametrize(
    ("defaults", "lines", "mode"),
    [
        ((), (), "tcp"),
        (("mode http",), (), "http"),
        (("mode http",), ("mode  tcp",), "tcp"),
        ((), ("mode http",), "http"),
    ],
)
def test_the_mode_is_the_last_one_said(defaults: tuple[str, ...], lines: tuple[str, ...], mode: str) -> None:
    assert backend("b", lines, (), defaults).mode == mode


@pytest.mark.parametrize(
    ("defaults", "lines", "dynamic"),
    [
        ((), (), True),
        (("balance static-rr",), (), False),
        (("balance static-rr",), ("balance leastconn",), True),
        (("hash-type consistent djb2",), ("balance source",), True),
        (("hash-type consistent",), ("balance source", "hash-type map-based"), False),
        ((), ("balance rdp-cookie(x)",), False),
        ((), ("balance url_param id",), False),
        ((), ("balance",), True),
        ((), ("balance first",), True),
    ],
)
def test_which_algorithms_take_servers(defaults: tuple[str, ...], lines: tuple[str, ...], dynamic: bool) -> None:
    assert backend("b", lines, (), defaults).dynamic is dynamic


def test_cookies_and_default_servers_come_from_both() -> None:
    found = backend("b", ("default-server rise 2",), (), ("cookie SRV insert", "default-server inter 1s fall 3"))
    assert (found.has_cookie, found.default_server) == (True, "inter 1s fall 3 rise 2")
    commented = backend(
        "b", ("default-server rise 2 # slow#er", "default-server # none", "default-server fall 4"), (), ()
    )
    assert commented.default_server == "rise 2 fall 4"
    assert backend("b", ('default-server check "x', "default-server fall 4 \\"), (), ()).default_server == ""
    assert not backend("b", ("cookies x",), (), ()).has_cookie


def test_servers_of_the_lines_are_known_by_name_and_id() -> None:
    lines = (
        "server x 10.0.0.1:1 id 5",
        "server-template t 3 db:1",
        "server-template u 2-3 db:1",
        "server-state-file-name x",
    )
    assert backend("b", lines, (), ()).static == {"x", "t1", "t2", "t3", "u2", "u3"}
    assert static_ids(lines) == {5}


@pytest.mark.parametrize("line", ["server-template 't", "server-template t ² db:1", "server-template t 1-x db:1"])
def test_a_template_that_haproxy_does_not_take_has_no_servers(line: str) -> None:
    assert backend("b", (line,), (), ()).static == frozenset()


def test_a_template_for_more_than_memory_holds_is_believed_in_part() -> None:
    found = backend("b", ("server-template t 7-9999999999 db:1",), (), ()).static
    assert len(found) == 100_000
    assert "t7" in found
    assert backend("b", (f"server-template t 1-{'9' * 5000} db:1",), (), ()).static == frozenset()


def test_a_quote_that_is_not_closed_is_for_haproxy_to_refuse() -> None:
    assert backend("b", ("server x 10.0.0.1:1", "server-template 't 1-2 db:1"), (), ()).static >= {"x"}


def test_the_last_defaults_section_holds() -> None:
    head = (Section("global"), Section("defaults", ("a",)), Section("defaults x", ("b",)), Section("listen y", ("c",)))
    assert (defaults_of(head), defaults_of(head[:2]), defaults_of(())) == (("b",), ("a",), ())
