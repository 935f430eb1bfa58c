"""HAProxy's things as values: what the file holds, what the running process has, and the steps from one to the other.

Nothing here knows how they are decided (place, plan) or carried out (commands, runtime).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dockstack.model import Address, patched


@dataclass(frozen=True, slots=True)
class Server:
    """One `server` line.

    `address` is an IP literal and a port. `options` is what stands behind the cookie word, white space folded.
    `id` is the server's number in its backend, whether written by us or named in `options`. `weight` is a
    `weight W` at the end of the line; a weight elsewhere stays in `options`.
    """

    name: str
    address: Address
    id: int | None = None
    cookie: str | None = None
    options: str = ""
    weight: int | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A section as the file holds it: its title line and its lines, stripped, in order."""

    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backend:
    """A `backend` section. What the lines and the `defaults` mean for its servers is worked out when it is made.

    `dynamic`: the balance algorithm lets servers come and go. `has_cookie`: a `cookie` directive is in force.
    `default_server`: the options of the `default-server` lines in force, which `add server` does not inherit.
    `static`: names of the servers that `lines` themselves declare; they are nobody's to move.
    """

    name: str
    lines: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    mode: str = "tcp"
    dynamic: bool = True
    has_cookie: bool = False
    default_server: str = ""
    static: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Stanza:
    """What one service puts in the file: a frontend of its own, or none, and its backend."""

    service: str
    frontend: Section | None
    backend: Backend


@dataclass(frozen=True, slots=True)
class Document:
    """The whole file: the sections before the services, a stanza per service in order, the sections behind them."""

    head: tuple[Section, ...] = ()
    stanzas: Mapping[str, Stanza] = field(default_factory=lambda: MappingProxyType({}))
    tail: tuple[Section, ...] = ()

    def with_stanzas(self, *stanzas: Stanza) -> Document:
        """A document in which these services have these stanzas; a new service stands at the end."""
        return Document(self.head, patched(self.stanzas, {one.service: one for one in stanzas}), self.tail)


class Admin(enum.Enum):
    """What an operator's command, or ours, has made of a server; its health is another matter."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server in the running process.

    `server` is the line that it was loaded or added with; address and id as read back. `weight` is the weight now in
    force. `known` is false for a server that was found running and is in no file of ours: its cookie and options
    cannot be read back. `up` is false for one that waits for its first good check (3.2 and later), as far as is known:
    HAProxy changes that by itself, so it makes no two servers different.
    """

    server: Server
    admin: Admin = Admin.READY
    weight: int = 1
    known: bool = True
    up: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class RunningBackend:
    """A backend in the running process: server name → server, those in maintenance included."""

    servers: Mapping[str, RunningServer] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a HAProxy version can do through its Runtime API.

    `can_delete`: `del server` is sound (never on 2.6, where it can crash the process). `cookie_on_add`: `add server`
    takes a `cookie` word. `init_state`: a checked server can start down. `refused`: words that `add server` does not
    take.
    """

    version: tuple[int, int]
    can_delete: bool
    cookie_on_add: bool
    init_state: bool
    refused: frozenset[str]


_NEVER_ON_ADD = frozenset(
    {"resolvers", "init-addr", "resolve-prefer", "resolve-opts", "resolve-net", "redir", "namespace", "stick"}
    | {"non-stick", "tcp-ut", "socks4", "log-proto", "no-check", "max-reuse", "enabled"}
)
_SINCE = (
    ((2, 8), frozenset({"cookie", "shard"})),
    ((3, 0), frozenset({"guid", "hash-key", "set-proxy-v2-tlv-fmt"})),
    ((3, 2), frozenset({"init-state", "strict-maxconn", "idle-ping", "check-reuse-pool", "check-pool-conn-name"})),
)


def capabilities(version: tuple[int, int]) -> Capabilities:
    """What `version` (major, minor) can do; measured on 2.6, 2.8, 3.0, 3.2 and 3.4, others go by the nearest below."""
    newer = frozenset(word for since, words in _SINCE if version < since for word in words)
    return Capabilities(
        version=version,
        can_delete=version >= (2, 8),
        cookie_on_add=version >= (2, 8),
        init_state=version >= (3, 2),
        refused=_NEVER_ON_ADD | newer,
    )


@dataclass(frozen=True, slots=True)
class Running:
    """The running process: the document that its worker loaded, and its servers as they are now.

    `loaded` is None when it is not known what the worker loaded (no mark, or not the mark of the file on disk); only
    its structure counts, its servers are in `backends` (by backend name).
    """

    capabilities: Capabilities
    loaded: Document | None = None
    backends: Mapping[str, RunningBackend] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Add:
    """A new server, with its checks on, in service.

    `inherited` are `default-server` options to be written before its own. `cookie`: the cookie word is written.
    `cautious`: where HAProxy can, it serves after its first good check only.
    """

    backend: str
    server: Server
    inherited: str = ""
    cookie: bool = True
    cautious: bool = False

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def waits(self) -> bool:
        """Whether it may serve only after a good check, by our wish or its own."""
        return self.cautious or "init-state" in self.server.options or "init-state" in self.inherited


@dataclass(frozen=True, slots=True)
class Ready:
    """A server that is there, back in service; `checked`: it has health checks, which are switched on first."""

    backend: str
    name: str
    checked: bool = False


@dataclass(frozen=True, slots=True)
class Trust:
    """A server that waits for its first good check serves at once; the next checks decide."""

    backend: str
    name: str


@dataclass(frozen=True, slots=True)
class Drain:
    """No new connections; open ones, and clients that a cookie ties to the server, stay."""

    backend: str
    name: str


@dataclass(frozen=True, slots=True)
class Maintain:
    """No new connections at all; open ones stay."""

    backend: str
    name: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The server's open sessions are closed."""

    backend: str
    name: str


@dataclass(frozen=True, slots=True)
class SetWeight:
    """The weight of a server that stays."""

    backend: str
    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class Delete:
    """A server in maintenance is forgotten. HAProxy refuses while a connection is attached to it."""

    backend: str
    name: str


Step = Add | Ready | Trust | Drain | Maintain | Cut | SetWeight | Delete


@dataclass(frozen=True, slots=True)
class Reason:
    """Why HAProxy must be reloaded; `service` is None where the whole file is meant."""

    service: str | None
    text: str

    def __str__(self) -> str:
        return self.text if self.service is None else f"service {self.service}: {self.text}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Runtime API steps in order, and the reasons for a reload, if there must be one.

    The steps are worth sending even when a reload is due: membership does not wait for it.
    """

    steps: tuple[Step, ...] = ()
    reload_reasons: tuple[Reason, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps or self.reload_reasons)
