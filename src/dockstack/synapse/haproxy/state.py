"""What `show servers state` says, as values: the only read-back of servers that is cheap at any size. Pure."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from dockstack.model import Address
from dockstack.synapse.haproxy.model import Admin, Running, RunningBackend, RunningServer, Server

_MAINT = 0x01 | 0x02 | 0x20
"""Forced, inherited by tracking, resolver failed. 0x04 only says that the file had `disabled`: it stays for ever."""

_DRAIN = 0x08 | 0x10
"""Forced and inherited draining."""

_OPERATING = frozenset({"1", "2"})
"""Starting slowly, and running."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """One server of the running process. `address` is None for a server without one (a name not resolved).

    `backend_id` is the number by which `show stat` finds the backend where a frontend has the same name.
    `operating`: it takes traffic as far as its health goes, be it slowly at first. `weight` is the one in force, as
    the user wrote it.
    """

    name: str
    id: int
    address: Address | None
    admin: Admin
    operating: bool
    weight: int
    backend_id: int


def parse_servers_state(text: str) -> Mapping[str, Mapping[str, ServerState]]:
    """The servers by backend and name. Raises ValueError when it is not the table in its version 1.

    A backend without servers does not appear. The columns are found by their titles, as they grow with versions.
    """
    lines = text.strip().splitlines()
    if len(lines) < 2 or lines[0].strip() != "1" or not lines[1].startswith("# "):
        raise ValueError(f"no table of servers in version 1: {text[:80]!r}")
    column = {title: index for index, title in enumerate(lines[1][2:].split())}
    try:
        group, backend, name, number, host, port, admin, operating, weight = (
            column[title]
            for title in (
                "be_id",
                "be_name",
                "srv_name",
                "srv_id",
                "srv_addr",
                "srv_port",
                "srv_admin_state",
                "srv_op_state",
                "srv_uweight",
            )
        )
    except KeyError as error:
        raise ValueError(f"the table of servers has no column {error}") from None
    found: dict[str, dict[str, ServerState]] = {}
    for line in lines[2:]:
        cells = line.split()
        if not cells or cells[0].startswith("#"):
            continue
        if len(cells) < len(column):
            raise ValueError(f"a row of the table of servers is cut: {line!r}")
        found.setdefault(cells[backend], {})[cells[name]] = ServerState(
            name=cells[name],
            id=int(cells[number]),
            address=None if cells[host] == "-" else Address(cells[host], int(cells[port])),
            admin=_admin(int(cells[admin])),
            operating=cells[operating] in _OPERATING,
            weight=int(cells[weight]),
            backend_id=int(cells[group]),
        )
    return found


def _admin(bits: int) -> Admin:
    if bits & _MAINT:
        return Admin.MAINT
    return Admin.DRAIN if bits & _DRAIN else Admin.READY


def parse_sessions(text: str) -> Mapping[str, int]:
    """The number of open sessions of each server, out of `show stat NUMBER 4 -1`; nothing when it is no such table."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("# pxname"):
        return {}
    rows = csv.DictReader([lines[0].removeprefix("# "), *lines[1:]])
    return {row["svname"]: int(row["scur"] or 0) for row in rows if row.get("scur") is not None}


def observe(
    running: Running, states: Mapping[str, Mapping[str, ServerState]], static: Mapping[str, frozenset[str]]
) -> Running:
    """`running` made true by what was read back: servers, admin states, weights, ids and addresses.

    What cannot be read back (cookie, options) is taken from `running` where name and address are the same; a server
    that is not there is marked as not known. Backends: those of the states, and of `running` where it is known what
    the process has loaded. `static` are names, by backend, of servers that are left alone.
    """
    names = {**dict.fromkeys(states), **(dict.fromkeys(running.backends) if running.loaded is not None else {})}
    backends = {}
    for backend in names:
        before = running.backends.get(backend, RunningBackend())
        skipped = static.get(backend, frozenset())
        seen = {
            name: _seen(state, before.servers.get(name), up=state.operating or not running.capabilities.init_state)
            for name, state in states.get(backend, {}).items()
            if name not in skipped
        }
        backends[backend] = before if _is_same(before, seen) else RunningBackend(MappingProxyType(seen))
    return replace(running, backends=MappingProxyType(backends))


def _is_same(before: RunningBackend, seen: Mapping[str, RunningServer]) -> bool:
    return before.servers == seen and all(before.servers[name].up == one.up for name, one in seen.items())


def _seen(state: ServerState, before: RunningServer | None, up: bool) -> RunningServer:
    if before is not None and before.server.address == state.address and before.server.id in (None, state.id):
        server = before.server if before.server.id == state.id else replace(before.server, id=state.id)
        return RunningServer(server, state.admin, state.weight, before.known, up)
    found = Server(state.name, state.address or Address("-", 0), state.id)
    return RunningServer(found, state.admin, state.weight, known=False, up=up)


def differences(before: Running, now: Running) -> tuple[str, ...]:
    """`BACKEND/SERVER` of each server that is not as it was believed to be; for messages and counts."""
    found = []
    for backend in {**before.backends, **now.backends}:
        old = before.backends.get(backend, RunningBackend())
        new = now.backends.get(backend, RunningBackend())
        if old is not new:
            servers = {**old.servers, **new.servers}
            found += [f"{backend}/{name}" for name in servers if old.servers.get(name) != new.servers.get(name)]
    return tuple(found)
