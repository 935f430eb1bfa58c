"""Documents and running processes for the tests of the pure parts: by hand, and at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hypothesis import strategies as st

from dockstack.model import Address
from dockstack.synapse.haproxy import meaning
from dockstack.synapse.haproxy.effects import loaded
from dockstack.synapse.haproxy.model import (
    Admin,
    Document,
    Running,
    RunningBackend,
    RunningServer,
    Section,
    Server,
    Stanza,
    capabilities,
)
from dockstack.synapse.haproxy.server import is_disabled, make, same_options, weight
from dockstack.synapse.haproxy.words import split

VERSIONS = ((2, 6), (2, 8), (3, 0), (3, 2), (3, 4))
DEFAULTS = ("mode http", "timeout connect 5s")


def server(
    name: str, number: int | None = None, options: str = "check", host: str = "10.0.0.1", port: int = 80
) -> Server:
    words = [*(() if number is None else ("id", str(number))), *split(options)]
    return make(name, Address(host, port), words)


def stanza(
    service: str,
    servers: Iterable[Server] = (),
    lines: tuple[str, ...] = ("mode http",),
    defaults: tuple[str, ...] = DEFAULTS,
    port: int = 1000,
) -> Stanza:
    frontend = Section(f"frontend {service}", (f"bind 127.0.0.1:{port}", f"default_backend {service}"))
    return Stanza(service, frontend, meaning.backend(service, lines, tuple(servers), defaults))


def document(*stanzas: Stanza, defaults: tuple[str, ...] = DEFAULTS, tail: tuple[Section, ...] = ()) -> Document:
    head = (Section("global", ("maxconn 100",)), Section("defaults", defaults))
    return Document(head, MappingProxyType({one.service: one for one in stanzas}), tail)


def serving(running: Running, backend: str) -> Mapping[str, RunningServer]:
    """The servers of a backend that take new connections, as far as commands go."""
    found = running.backends.get(backend, RunningBackend()).servers
    return {name: one for name, one in found.items() if one.admin is Admin.READY}


def differences(running: Running, wanted: Document) -> list[str]:
    """Where the servers in service are not those of the document, with address, id, weight, options and cookie."""
    found = []
    for one in wanted.stanzas.values():
        backend = one.backend
        wished = {each.name: each for each in backend.servers if not is_disabled(each)}
        has = {name: each for name, each in serving(running, backend.name).items() if name not in backend.static}
        found += [f"{backend.name}/{name} only in one" for name in wished.keys() ^ has.keys()]
        for name in wished.keys() & has.keys():
            wish, is_ = wished[name], has[name]
            if wish.address != is_.server.address:
                found.append(f"{name}: address")
            if is_.server.id is not None and wish.id not in (None, is_.server.id):  # None: not read back yet
                found.append(f"{name}: id {is_.server.id}, not {wish.id}")
            if is_.weight != weight(wish, backend.default_server):
                found.append(f"{name}: weight {is_.weight}")
            if not same_options(wish.options, is_.server.options):
                found.append(f"{name}: options {is_.server.options}")
            if backend.has_cookie and wish.cookie != is_.server.cookie:
                found.append(f"{name}: cookie {is_.server.cookie}")
    return found


OPTIONS = (
    "",
    "check",
    "check weight 5",
    "weight 9 check",
    "check resolvers dns",
    "check redir x",
    "check track b/a",
    'check sni str("x")',
    "check on-marked-down shutdown-sessions",
    "check disabled",
    "agent-check agent-port 5",
)
PLAIN_OPTIONS = OPTIONS[:5]
LINES = (
    ("mode http",),
    ("mode tcp",),
    ("mode http", "cookie SRV insert"),
    ("balance source",),
    ("balance source", "hash-type consistent"),
    ("default-server inter 1s weight 3",),
    ("default-server on-marked-down shutdown-sessions", "mode tcp"),
    ("server a 10.9.9.9:1 check", "mode http"),
)


@st.composite
def servers(draw: st.DrawFn, options: tuple[str, ...] = OPTIONS) -> tuple[Server, ...]:
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=5))
    numbers = draw(st.permutations(range(1, 8)))
    found = []
    for name, number in zip(names, numbers, strict=False):
        words = [] if draw(st.integers(0, 9)) == 0 else ["id", str(number)]
        if draw(st.booleans()):
            words += ["cookie", draw(st.sampled_from((name, "other")))]
        words += split(draw(st.sampled_from(options)))
        where = Address(f"10.0.0.{draw(st.integers(1, 2))}", 80)
        found.append(make(name, where, words))
    return tuple(found)


@dataclass(frozen=True)
class World:
    running: Running
    wanted: Document
    same_structure: bool


@st.composite
def worlds(draw: st.DrawFn, options: tuple[str, ...] = OPTIONS) -> World:
    """A process that loaded one document and was changed since, and the document that is wanted now."""
    version = draw(st.sampled_from(VERSIONS))
    names = draw(st.lists(st.sampled_from("stu"), unique=True, min_size=1))
    lines = {name: draw(st.sampled_from(LINES)) for name in names}
    first = document(
        *(stanza(name, _without_static(draw(servers(options)), lines[name]), lines[name]) for name in names)
    )
    running = loaded(first, capabilities(version))
    backends = dict(running.backends)
    for name in names:
        moved = {}
        for each, now in backends[name].servers.items():
            if draw(st.integers(0, 5)):
                admin = draw(st.sampled_from((Admin.READY, Admin.READY, Admin.DRAIN, Admin.MAINT)))
                known = draw(st.integers(0, 9)) > 0
                force = draw(st.sampled_from((now.weight, 5)))
                up = version < (3, 2) or draw(st.booleans())
                moved[each] = RunningServer(now.server, admin, force, known, up)
        backends[name] = RunningBackend(MappingProxyType(moved))
    running = Running(running.capabilities, first, MappingProxyType(backends))
    same = draw(st.booleans())
    if not same:
        lines = {name: draw(st.sampled_from(LINES)) for name in draw(st.lists(st.sampled_from("stuv"), unique=True))}
        if draw(st.booleans()):
            running = Running(running.capabilities, None, running.backends)
    wanted = document(
        *(stanza(name, _without_static(draw(servers(options)), lines[name]), lines[name]) for name in lines)
    )
    return World(running, wanted, same)


def _without_static(found: tuple[Server, ...], lines: tuple[str, ...]) -> tuple[Server, ...]:
    static = meaning.backend("x", lines, (), ()).static
    return tuple(one for one in found if one.name not in static)
