from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dockstack.model import Address
from dockstack.synapse.haproxy.effects import after, loaded
from dockstack.synapse.haproxy.model import Add, Admin, Running, RunningServer, Server, SetWeight, capabilities
from dockstack.synapse.haproxy.state import ServerState, differences, observe, parse_servers_state, parse_sessions
from tests.synapse.haproxy.worlds import document, server, stanza

TITLES = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight"
    " srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state"
    " bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr"
    " srv_agent_addr srv_agent_port"
)


def row(
    name: str, *, backend: str = "b", number: int = 1, address: str = "127.0.0.1", op: int = 2, admin: int = 0
) -> str:
    return f"3 {backend} {number} {name} {address} {op} {admin} 20 10 0 8 2 0 6 0 0 1 - 8080 - 0 0 - - 0"


def test_servers_by_backend_and_name() -> None:
    table = "\n".join(("1", TITLES, row("a"), row("x", backend="c", number=7, address="::1", op=0), "", ""))
    assert parse_servers_state(table) == {
        "b": {"a": ServerState("a", 1, Address("127.0.0.1", 8080), Admin.READY, True, 20, 3)},
        "c": {"x": ServerState("x", 7, Address("::1", 8080), Admin.READY, False, 20, 3)},
    }


@pytest.mark.parametrize(
    ("bits", "admin"),
    [
        (0, Admin.READY),
        (1, Admin.MAINT),
        (5, Admin.MAINT),  # `disabled` in the file
        (4, Admin.READY),  # the same server made ready: the trace of `disabled` stays
        (8, Admin.DRAIN),
        (16, Admin.DRAIN),
        (9, Admin.MAINT),
        (32, Admin.MAINT),
    ],
)
def test_admin_state_is_a_set_of_bits(bits: int, admin: Admin) -> None:
    assert parse_servers_state("\n".join(("1", TITLES, row("a", admin=bits))))["b"]["a"].admin is admin


def test_no_servers_is_a_table_without_rows() -> None:
    assert parse_servers_state(f"1\n{TITLES}\n\n") == {}


def test_a_server_without_an_address() -> None:
    assert parse_servers_state("\n".join(("1", TITLES, row("a", address="-"))))["b"]["a"].address is None


@pytest.mark.parametrize(
    "text",
    ["", "Can't find backend.", "2\n" + TITLES, "1", "1\n# be_id be_name", f"1\n{TITLES}\n3 b 1 a 127.0.0.1 2"],
)
def test_anything_else_is_an_error_and_never_an_empty_set(text: str) -> None:
    with pytest.raises(ValueError, match="table"):
        parse_servers_state(text)


@pytest.mark.parametrize(("op", "waits"), [(0, True), (1, False), (2, False), (3, True)])
def test_who_waits_for_a_check_is_known_and_no_difference(op: int, waits: bool) -> None:
    table = "\n".join(("1", TITLES, row("a", op=op)))
    for version, after_all in (((3, 2), waits), ((3, 0), False)):
        running = loaded(document(stanza("b", [])), capabilities(version))
        added = Add("b", server("a", 1, "check weight 20", host="127.0.0.1", port=8080), cautious=not waits)
        before = after(running, [added])
        assert before.backends["b"].servers["a"].up is waits
        seen = observe(before, parse_servers_state(table), {})
        assert seen.backends["b"].servers["a"].up is not after_all
        assert differences(before, seen) == ()


def test_comments_and_empty_lines_are_no_rows() -> None:
    assert parse_servers_state("\n".join(("1", TITLES, "# a", row("a"), ""))).keys() == {"b"}


def test_open_sessions_by_server() -> None:
    assert parse_sessions("\n# pxname,svname,qcur,scur,\nb,a,0,3,\n\nb,c,0,,\nb,d\n") == {"a": 3, "c": 0}
    assert parse_sessions("# pxname,svname,qcur,scur,\n") == {}
    for text in ("", "Can't find backend.", "pxname,svname,scur\nb,a,3"):
        assert parse_sessions(text) == {}


HERE: dict[str, Any] = {"host": "127.0.0.1", "port": 8080}


def read(*rows: str) -> Mapping[str, Mapping[str, ServerState]]:
    return parse_servers_state("\n".join(("1", TITLES, *rows)))


def running_with(*servers: Server) -> Running:
    found = loaded(document(stanza("b", servers), stanza("empty")), capabilities((2, 8)))
    return after(found, [SetWeight("b", one.name, 20) for one in servers])


def test_what_is_as_it_was_believed_to_be_is_the_same_object() -> None:
    before = running_with(server("a", 1, "check", **HERE), server("c", 2, "check", **HERE))
    seen = observe(before, read(row("a"), row("c", number=2)), {})
    assert seen.backends.keys() == {"b", "empty"}
    assert seen.backends["b"] is before.backends["b"]
    assert differences(before, seen) == ()


def test_what_cannot_be_read_back_stays_where_name_and_address_do() -> None:
    before = running_with(server("a", None, "check", **HERE), server("c", 2, "check", **HERE))
    seen = observe(before, read(row("a", number=5, admin=1), row("c", number=2, address="10.0.0.9")), {})
    servers = seen.backends["b"].servers
    assert servers["a"] == RunningServer(server("a", 5, "check", **HERE), Admin.MAINT, 20)
    assert servers["c"] == RunningServer(Server("c", Address("10.0.0.9", 8080), 2), Admin.READY, 20, known=False)
    assert differences(before, seen) == ("b/a", "b/c")


def test_another_id_and_no_address_make_another_server() -> None:
    before = running_with(server("a", 1, "check", **HERE), server("c", 2, "check", **HERE))
    seen = observe(before, read(row("a", number=7), row("c", number=2, address="-")), {})
    assert {one.known for one in seen.backends["b"].servers.values()} == {False}
    assert seen.backends["b"].servers["c"].server.address == Address("-", 0)


def test_who_is_gone_and_who_is_new_are_differences_and_others_servers_are_nobodys() -> None:
    before = running_with(server("a", 1, "check", **HERE), server("c", 2, "check", **HERE))
    seen = observe(before, read(row("a"), row("d", number=3), row("own", number=4)), {"b": frozenset({"own"})})
    assert seen.backends["b"].servers.keys() == {"a", "d"}
    assert differences(before, seen) == ("b/c", "b/d")


def test_without_a_file_only_what_is_there_is_known() -> None:
    before = replace(running_with(server("a", 1, "check", **HERE)), loaded=None)
    assert observe(before, read(row("x", backend="z")), {}).backends.keys() == {"z"}
    known = running_with(server("a", 1, "check", **HERE))
    assert observe(known, {}, {}).backends["b"].servers == {}


def test_one_of_two_that_has_begun_to_serve_is_seen() -> None:
    before = loaded(document(stanza("b", [])), capabilities((3, 2)))
    adds = [Add("b", server(name, n, "check weight 20", **HERE), cautious=True) for n, name in ((1, "a"), (2, "c"))]
    before = after(before, adds)
    seen = observe(before, read(row("a", op=2), row("c", number=2, op=0)), {})
    assert {name: one.up for name, one in seen.backends["b"].servers.items()} == {"a": True, "c": False}
