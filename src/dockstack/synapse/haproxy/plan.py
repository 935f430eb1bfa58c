"""From what runs to what is wanted: Runtime API steps, and the reasons for a reload where they are not enough. Pure.

What becomes of a difference:

| difference | how |
|---|---|
| a new server | `Add` |
| one that is back, in maintenance or draining, unchanged | `Ready` |
| a server that left, HTTP | `Maintain`: a cookie would still bring clients to a draining one; open requests end |
| a server that left, TCP | `Drain`: open sessions go on (who applies the plan limits for how long) |
| a server that left, with `on-marked-down shutdown-sessions` | `Maintain`: HAProxy then cuts its sessions |
| any of these, with no time given to sessions | `Maintain`, `Cut` |
| another weight | `SetWeight` |
| other options, cookie, id or address, same name | `Maintain`, `Delete`, `Add` if another one serves; or a reload |
| a new or gone service, other lines or listening address, other sections | a reload |

A server cannot be added, which means a reload, where the algorithm is a fixed table (`static-rr`, `balance source`
without consistent hashing), where its options have words that `add server` refuses, follow another server (`track`),
have quotes that the Runtime API reads in another way, or are too long for a command, where HAProxy 2.6 would have to be
given a cookie that has an effect, and beyond 2,000 at once in one backend, where a reload is faster.

Additions come before removals, and a backend never passes through having no server: if nothing of what is wanted can
serve before the reload, what serves now stays. A server that waits for its first good check (3.2 and later) does not
serve: where the last one that does is to go, it is trusted at once. The rest of the steps does not wait for a reload.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dockstack.synapse.haproxy.commands import IDLE_WITH_AN_ADDRESS, sent_options
from dockstack.synapse.haproxy.model import (
    Add,
    Admin,
    Backend,
    Capabilities,
    Cut,
    Delete,
    Document,
    Drain,
    Maintain,
    Plan,
    Ready,
    Reason,
    Running,
    RunningServer,
    Server,
    SetWeight,
    Stanza,
    Step,
    Trust,
)
from dockstack.synapse.haproxy.server import is_disabled, meaning, same_options, weight

MOST_ADDS = 2000
"""Servers added to one backend by commands; beyond, a reload takes less time."""

LONGEST_OPTIONS = 4000
"""Bytes of options that are sent to HAProxy in one command: it takes 16 KB in all, and ends longer ones."""

_READ_IN_ANOTHER_WAY = frozenset("\"'\\;")


def plan(
    running: Running,
    wanted: Document,
    changed: Iterable[str] | None = None,
    stuck: frozenset[tuple[str, str]] = frozenset(),
    cut: bool = False,
    *,
    refused: frozenset[tuple[str, str]] = frozenset(),
) -> Plan:
    """The steps and the reload reasons from `running` to `wanted`.

    `changed` are the services to look at; None is all of them, the gone ones included. The work is in proportion to
    it. `stuck` are servers (backend, name) that HAProxy did not delete in time: their change becomes a reload.
    `cut`: the sessions of a server that leaves or changes are closed at once. `refused` are servers (backend, name)
    that HAProxy has just refused to add.
    """
    loaded = running.loaded
    reasons = [] if loaded is None else [*_framing(loaded, wanted)]
    if loaded is None:
        reasons.append(Reason(None, "it is not known which configuration HAProxy has loaded"))
    steps: list[Step] = []
    for service in _all(loaded, wanted) if changed is None else dict.fromkeys(changed):
        new = wanted.stanzas.get(service)
        old = None if loaded is None else loaded.stanzas.get(service)
        if loaded is not None:
            reasons += _structure(service, old, new)
        now = None if new is None else _now(running, old, new)
        if new is not None and now is not None:
            traits = new.backend if old is None else old.backend
            difference = _Difference(
                service, now, new.backend, traits, running.capabilities, stuck, refused, cut, on_trust=old is None
            )
            difference.work_out()
            steps += difference.steps
            reasons += difference.reasons
    return Plan(tuple(steps), tuple(reasons))


def _all(loaded: Document | None, wanted: Document) -> Iterable[str]:
    return {**wanted.stanzas, **({} if loaded is None else loaded.stanzas)}


def _framing(loaded: Document, wanted: Document) -> Iterator[Reason]:
    for old, new in ((loaded.head, wanted.head), (loaded.tail, wanted.tail)):
        if old is new or old == new:
            continue
        before = {one.title: one for one in old}
        after = {one.title: one for one in new}
        titles = [title for title in {**before, **after} if before.get(title) != after.get(title)]
        what = ", ".join(f"`{title}`" for title in titles)
        yield Reason(None, f"{what} changes" if titles else "the order of the sections changes")


def _structure(service: str, old: Stanza | None, new: Stanza | None) -> Iterator[Reason]:
    if old is None or new is None:
        if old is not new:
            yield Reason(service, "it is new" if old is None else "it is gone")
        return
    if old.frontend != new.frontend:
        moved = _binds(old) != _binds(new)
        yield Reason(service, "its listening address changes" if moved else "its frontend changes")
    if old.backend.name != new.backend.name or old.backend.lines != new.backend.lines:
        yield Reason(service, "its backend changes")


def _binds(stanza: Stanza) -> list[str]:
    return [] if stanza.frontend is None else [one for one in stanza.frontend.lines if one.startswith("bind ")]


def _now(running: Running, old: Stanza | None, new: Stanza) -> Mapping[str, RunningServer] | None:
    """The servers of the service's backend in the running process, or None where there is no such backend."""
    found = running.backends.get(new.backend.name)
    if found is not None:
        return found.servers
    return {} if old is not None and old.backend.name == new.backend.name else None


@dataclass(slots=True)
class _Difference:
    """One backend's steps and reasons, worked out in the order in which they are carried out.

    `traits` is the backend as the process has loaded it. `on_trust`: what it has loaded is not known, so a server
    counts as unchanged if its address and id are right.
    """

    service: str
    now: Mapping[str, RunningServer]
    wanted: Backend
    traits: Backend
    capabilities: Capabilities
    stuck: frozenset[tuple[str, str]]
    refused: frozenset[tuple[str, str]]
    cut: bool
    on_trust: bool
    steps: list[Step] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    holders: dict[int, str] = field(default_factory=dict)
    staying: frozenset[str] = frozenset()

    def work_out(self) -> None:
        new: list[Server] = []
        other: list[Server] = []
        same: list[Server] = []
        for server in self.wanted.servers:
            if is_disabled(server):
                continue
            now = self.now.get(server.name)
            (new if now is None else same if self._is_same(now, server) else other).append(server)
        fixed = self.wanted.static | self.traits.static
        self.staying = fixed.union(one.name for group in (new, other, same) for one in group)
        kept = {one.name for one in same} | fixed
        serving = {name for name in kept if self._serves(name)}
        anchored, nobody_wanted = bool(serving), not (new or other or same)
        if new or other:
            self.holders = {now.server.id: name for name, now in self.now.items() if now.server.id is not None}
        if not self._can_add(len(new) + len(other)):
            serving |= {one.name for one in other if self._serves(one.name)}
            new, other = [], []
        for server in new:
            if (added := self._add(server, anchored)) is not None and not added.waits:
                serving.add(server.name)
        for server in same:
            if self._keep(server):
                serving.add(server.name)
        changing = {one.name for one in other if self._serves(one.name)}
        if not serving and len(changing) < 2:
            serving |= self._trust([one.name for one in same], bool(changing))
        serving |= changing
        for server in other:
            if self._replace(server, anchored, serving):
                serving.add(server.name)
        if serving or nobody_wanted:
            self._remove()

    def _serves(self, name: str) -> bool:
        now = self.now.get(name)
        return now is not None and now.admin is Admin.READY and now.up

    def _is_same(self, now: RunningServer, server: Server) -> bool:
        has = now.server
        if has is server and now.known:
            return True
        if has.address != server.address or (has.id != server.id and None not in (has.id, server.id)):
            return False
        if not now.known or self.on_trust:
            return self.on_trust
        return (has.cookie == server.cookie or not self.traits.has_cookie) and same_options(has.options, server.options)

    def _because(self, text: str) -> None:
        self.reasons.append(Reason(self.service, text))

    def _can_add(self, count: int) -> bool:
        if not count:
            return True
        if not self.traits.dynamic:
            self._because("its balance algorithm is a fixed table: servers cannot be added to it")
        elif count > MOST_ADDS:
            self._because(f"{count} servers at once: a reload is faster than so many commands")
        return self.traits.dynamic and count <= MOST_ADDS

    def _trust(self, same: list[str], losing: bool) -> set[str]:
        """Has those serve at once that wait for a check, where nobody else does; returns who can be counted on.

        Those that were waiting before are left alone when nobody goes: they may be waiting for a good reason.
        """
        losing = losing or any(self._serves(name) for name in self.now if name not in self.staying)
        begun = [one.name for one in self.steps if isinstance(one, Add | Ready)]
        self.steps += [Trust(self.wanted.name, name) for name in dict.fromkeys((*begun, *same) if losing else begun)]
        return {*begun, *same}

    def _add(self, server: Server, anchored: bool) -> Add | None:
        why = self._refusal(server) or self._make_room(server)
        if why is not None:
            self._because(f"server {server.name} cannot be added: {why}")
            return None
        return self._append(server, anchored)

    def _append(self, server: Server, anchored: bool) -> Add:
        said = meaning(server, self.traits.default_server)
        careful = anchored and self.capabilities.init_state and said.checked and "init-state" not in said.keywords
        added = Add(
            backend=self.wanted.name,
            server=server,
            inherited=self.traits.default_server,
            cookie=self.capabilities.cookie_on_add,
            cautious=careful,
        )
        self.steps.append(added)
        return added

    def _refusal(self, server: Server) -> str | None:
        """Why this version cannot be given the server by `add server`, or None."""
        if (self.wanted.name, server.name) in self.refused:
            return "HAProxy has refused it"
        sent = f"{server.cookie or ''} {sent_options(server.options, self.traits.default_server)}"
        if not _READ_IN_ANOTHER_WAY.isdisjoint(sent) or "<<" in sent:
            return "its options are quoted, which the Runtime API reads in another way"
        if len(sent.encode()) > LONGEST_OPTIONS:
            return f"its options have more than {LONGEST_OPTIONS} bytes, too many for a command"
        words = meaning(server, self.traits.default_server).keywords - IDLE_WITH_AN_ADDRESS - {"enabled"}
        refused = sorted(words & (self.capabilities.refused | {"track"}))
        if refused:
            return f"`add server` does not take {', '.join(f'`{one}`' for one in refused)}"
        if server.cookie is not None and self.traits.has_cookie and not self.capabilities.cookie_on_add:
            return "`add server` does not take `cookie`"
        return None

    def _make_room(self, server: Server) -> str | None:
        """Deletes a server of the past that still has the wanted id; says why where that cannot be done."""
        holder = None if server.id is None else self.holders.get(server.id)
        if holder is None or holder == server.name:
            return None
        gone = holder not in self.staying and self.now[holder].admin is Admin.MAINT
        if not gone or not self.capabilities.can_delete or self._is_stuck(holder):
            return f"the id {server.id} is still that of {holder}"
        self.steps.append(Delete(self.wanted.name, holder))
        return None

    def _is_stuck(self, name: str) -> bool:
        return (self.wanted.name, name) in self.stuck

    def _keep(self, server: Server) -> bool:
        """Whether it serves for certain afterwards."""
        now = self.now[server.name]
        wish = weight(server, self.traits.default_server)
        if now.weight != wish:
            self.steps.append(SetWeight(self.wanted.name, server.name, wish))
        if now.admin is not Admin.READY:
            checked = meaning(server, self.traits.default_server).checked
            self.steps.append(Ready(self.wanted.name, server.name, checked))
            return not (checked and self.capabilities.init_state)
        return now.up

    def _replace(self, server: Server, anchored: bool, serving: set[str]) -> bool:
        name = server.name
        why = self._refusal(server)
        if not self.capabilities.can_delete:
            why = "this HAProxy cannot delete a server"
        elif self._is_stuck(name):
            why = "HAProxy does not delete it while it has connections"
        elif self._serves(name) and not serving - {name}:
            why = "no other server is in service"
        if why is None:
            why = self._make_room(server)
        if why is not None:
            self._because(f"server {name} changes: {why}")
            return False
        if self.now[name].admin is not Admin.MAINT:
            self._maintain(name)
        self.steps.append(Delete(self.wanted.name, name))
        self._append(server, anchored)
        return True

    def _remove(self) -> None:
        for name, now in self.now.items():
            if now.admin is Admin.READY and name not in self.staying:
                cuts = meaning(now.server, self.traits.default_server).cuts_sessions
                if self.traits.mode == "tcp" and not cuts and not self.cut:
                    self.steps.append(Drain(self.wanted.name, name))
                else:
                    self._maintain(name)

    def _maintain(self, name: str) -> None:
        self.steps.append(Maintain(self.wanted.name, name))
        if self.cut:
            self.steps.append(Cut(self.wanted.name, name))
