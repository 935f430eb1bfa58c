"""Which server each instance becomes: its name, id, cookie, options and weight, and the order in the file. Pure.

An id is kept as long as its server is known. A new server takes the number that the registry gave its instance, if
that is free, and otherwise one that follows from its name: so hosts agree without talking to each other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dockstack.model import Address, Entry, Instance
from dockstack.settings.synapse import HaproxySettings, SynapseService
from dockstack.settings.template import fill
from dockstack.synapse.haproxy.meaning import static_ids
from dockstack.synapse.haproxy.model import Backend, Server
from dockstack.synapse.haproxy.server import MAX_WEIGHT, is_address, make, named_id
from dockstack.synapse.haproxy.words import split, without

# What HAProxy allows in the name of a server.
_NAME = re.compile(r"[A-Za-z0-9_.:-]+")

LONGEST_NAME = 1000
"""Characters of a server's name: it is a part of every command, and HAProxy takes no command of 16 KB."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a service's settings say about its servers, worked out once.

    `cookie` is None (no cookie word), `name` or `hash`. `fixed` are ids by server name that the default servers ask
    for; `taken` are ids, and `names` names, of servers in the backend's own lines. `seed` makes the default order.
    """

    service: str
    options: str
    order: str | None
    cookie: str | None
    weights: bool
    max_id: int
    seed: str
    fixed: Mapping[str, int]
    taken: frozenset[int]
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Placed:
    """A backend's servers in the order of the file, and a sentence for each instance that is not among them."""

    servers: tuple[Server, ...]
    problems: tuple[str, ...] = ()


def rules(service: str, own: SynapseService, top: HaproxySettings, backend: Backend, host: str) -> Rules:
    """The rules of a service. `backend` is its skeleton's; `host` is this host's name, for the default order."""
    fixed = {
        server_name(Instance(one.host, one.port, one.name)): one.haproxy_server_id
        for one in own.default_servers
        if one.haproxy_server_id is not None
    }
    return Rules(
        service=service,
        options=own.haproxy.server_options or "",
        order=own.haproxy.backend_order,
        cookie=None if "mode tcp" in backend.lines else own.haproxy.cookie_value_method,
        weights=top.use_nerve_weights,
        max_id=top.max_server_id,
        seed=host if top.server_order_seed is None else str(top.server_order_seed),
        fixed=fixed,
        taken=static_ids(backend.lines),
        names=backend.static,
    )


def server_name(instance: Instance) -> str:
    """The server's name in HAProxy, which never changes: `NAME_HOST:PORT`, or `HOST:PORT` without a name."""
    where = f"{instance.host}:{instance.port}"
    return f"{instance.name}_{where}" if instance.name else where


def place(
    rules: Rules,
    entry: Entry,
    addresses: Mapping[str, str],
    known: Mapping[str, int],
    departed: Sequence[Instance] = (),
) -> Placed:
    """The servers of a service.

    `addresses` gives the IP literal of each host that is a name. `known` are the ids, by server name, of all servers
    that the backend has or had: they stay taken. `departed` instances are listed as disabled.
    """
    problems: list[str] = []
    drafts: dict[str, _Draft] = {}
    for instance, gone in (*((one, True) for one in departed), *((one, False) for one in entry.instances)):
        name = server_name(instance)
        try:
            draft = _draft(rules, name, instance, gone, addresses)
        except ValueError as error:
            if not gone:
                problems.append(f"service {rules.service}: {_short(name)} is not served: {error}")
            continue
        before = drafts.get(name)
        if before is None or before.gone:
            drafts[name] = draft
        else:
            problems.append(f"service {rules.service}: {name!r} is announced twice: one of them is served")
    ids = _ids(rules, drafts, known, problems)
    servers = [_server(rules, draft, ids.get(draft.name)) for draft in drafts.values()]
    return Placed(tuple(_ordered(rules, servers)), tuple(problems))


def _short(name: str) -> str:
    return repr(name if len(name) <= LONGEST_NAME else f"{name[:40]}…")


@dataclass(slots=True)
class _Draft:
    """A server whose id is not decided yet; `number` is the one that its own options or settings ask for."""

    name: str
    address: Address
    options: str
    weight: int | None
    registry_id: int | None
    number: int | None
    gone: bool


def _draft(rules: Rules, name: str, instance: Instance, gone: bool, addresses: Mapping[str, str]) -> _Draft:
    if not _NAME.fullmatch(name):
        raise ValueError("HAProxy allows letters, digits and _ . : - in a server's name")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"its name has {len(name)} characters, and at most {LONGEST_NAME} are taken")
    if name in rules.names:
        raise ValueError("the backend's own lines have a server of this name")
    host = instance.host if is_address(instance.host) else addresses.get(instance.host)
    if host is None:
        raise ValueError(f"the host {instance.host} cannot be resolved")
    templates = [one for one in (rules.options, instance.haproxy_server_options) if one]
    values = {"host": instance.host, "port": str(instance.port), "name": name}
    options = " ".join(" ".join(split(fill(one, values) if "%" in one else one)) for one in templates)
    weight = None
    if rules.weights and type(instance.weight) is int and instance.weight >= 0:
        weight = min(instance.weight, MAX_WEIGHT)
        options = without(options, "weight")
    named = named_id(options)
    number = rules.fixed.get(name) if named is None else named
    return _Draft(name, Address(host, int(instance.port)), options, weight, instance.id, number, gone)


def _ids(
    rules: Rules, drafts: Mapping[str, _Draft], known: Mapping[str, int], problems: list[str]
) -> Mapping[str, int]:
    """An id for each server that can have one: what it asks for, else what it had, else the registry's, else any.

    Decided in the order of the names, so that the order of the instances does not matter.
    """
    ids: dict[str, int] = {}
    taken = set(rules.taken)
    names = sorted(drafts)
    for name in names:
        number = drafts[name].number
        if number is None:
            continue
        if number in taken:
            problems.append(f"service {rules.service}: {name!r} asks for the id {number}, which is another server's")
            drafts[name].options = without(drafts[name].options, "id")
            drafts[name].number = None
        else:
            ids[name] = number
            taken.add(number)
    for name, number in sorted(known.items()):
        if name not in ids and number not in taken:
            taken.add(number)
            if name in drafts:
                ids[name] = number
    _add_new(rules, drafts, ids, taken, problems)
    return ids


def _add_new(
    rules: Rules, drafts: Mapping[str, _Draft], ids: dict[str, int], taken: set[int], problems: list[str]
) -> None:
    """An id for each server that has none yet; the registry's numbers go first, so that nobody takes another's."""
    new = [name for name in sorted(drafts) if name not in ids]
    for name in new:
        wish = drafts[name].registry_id
        if wish is not None and 1 <= wish <= rules.max_id and wish not in taken:
            ids[name] = wish
            taken.add(wish)
    for name in new:
        if name in ids:
            continue
        number = _free(rules, name, taken)
        if number is None:
            problems.append(f"service {rules.service}: no id up to {rules.max_id} is free: {name!r} has none")
        else:
            ids[name] = number
            taken.add(number)


def _free(rules: Rules, name: str, taken: set[int]) -> int | None:
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    if len(taken) >= rules.max_id and taken >= set(range(1, rules.max_id + 1)):
        return None
    return next(number for at in range(rules.max_id) if (number := (start + at) % rules.max_id + 1) not in taken)


def _server(rules: Rules, draft: _Draft, number: int | None) -> Server:
    words: list[str] = []
    if number is not None:
        words += ["id", str(number)]
    if rules.cookie is not None:
        words += ["cookie", hashlib.sha1(draft.name.encode()).hexdigest() if rules.cookie == "hash" else draft.name]
    words += split(draft.options)
    if draft.weight is not None:
        words += ["weight", str(draft.weight)]
    if draft.gone:
        words.append("disabled")
    return make(draft.name, draft.address, words)


def _ordered(rules: Rules, servers: list[Server]) -> Iterable[Server]:
    if rules.order == "no_shuffle":
        return servers
    if rules.order in ("asc", "desc"):
        return sorted(servers, key=lambda one: one.name, reverse=rules.order == "desc")
    return sorted(servers, key=lambda one: hashlib.sha256(f"{rules.seed}\0{one.name}".encode()).digest())
