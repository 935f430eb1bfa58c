from __future__ import annotations

import pytest

from dockstack.model import Address
from dockstack.synapse.haproxy.effects import after, loaded
from dockstack.synapse.haproxy.model import Add, Admin, capabilities
from dockstack.synapse.haproxy.state import ServerState, differences, observe, parse_servers_state
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
