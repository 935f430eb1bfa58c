"""The wanted document, kept equal to the newest catalog: only the services that changed are drafted again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from dockstack.events import Emit, Warn
from dockstack.model import Catalog, Entry
from dockstack.synapse.events import ServerRefused
from dockstack.synapse.haproxy.document import Frame, draft
from dockstack.synapse.haproxy.model import Document, Running, Server
from dockstack.synapse.names import Names, is_name

Remember = Callable[[str, Entry, Mapping[str, int]], None]
"""Told a service's entry and the ids of its servers whenever they have changed."""

MOST_FORGOTTEN = 1024
"""Ids kept for servers of one service that are gone, the newest: one that comes back gets its own again."""


class Drafts:
    """Holds the wanted document. `names` resolves hosts; `remember` saves what a restart must know. No I/O."""

    def __init__(
        self, frame: Frame, names: Names, ids: Mapping[str, Mapping[str, int]], remember: Remember, emit: Emit
    ) -> None:
        self._frame = frame
        self._names = names
        self._ids = {service: dict(known) for service, known in ids.items()}
        self._remember = remember
        self._emit = emit
        self.catalog = Catalog()
        self._hosts: dict[str, frozenset[str]] = {}
        self._refused: dict[str, set[Server]] = {}
        self._problems: dict[str, tuple[str, ...]] = {}
        self.wanted: Document = frame.empty

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each instance that is not served at present."""
        return tuple(problem for each in self._problems.values() for problem in each)

    def take(self, catalog: Catalog) -> frozenset[str]:
        """Makes the document that of this catalog; returns the services whose stanza is a new one."""
        before, self.catalog = self.catalog, catalog
        changed = [name for name in catalog.changed_since(before) if name in self._frame.skeletons]
        moved = [name for name in changed if self._follow(name)]
        if moved:
            self._names.want(host for hosts in self._hosts.values() for host in hosts)
        return self._draft(changed)

    def resolved(self, hosts: frozenset[str]) -> frozenset[str]:
        """Drafts again what has servers on these hosts; returns the services whose stanza is a new one."""
        return self._draft([service for service, own in self._hosts.items() if not own.isdisjoint(hosts)])

    def refuse(self, servers: Iterable[tuple[str, str, str]]) -> frozenset[str]:
        """Leaves these servers out as long as they are described as now; returns the services that are new for it.

        Each is a service, the server's name, and HAProxy's words.
        """
        hit = []
        for service, name, line in servers:
            stanza = self.wanted.stanzas.get(service)
            found = [] if stanza is None else [one for one in stanza.backend.servers if one.name == name]
            if found:
                self._refused.setdefault(service, set()).update(found)
                self._emit(ServerRefused(service, name, line))
                hit.append(service)
        return self._draft(dict.fromkeys(hit))

    def learn(self, running: Running) -> frozenset[str]:
        """Takes over the ids that servers have in the running process; returns the services that are new for it."""
        hit = []
        for service, stanza in self.wanted.stanzas.items():
            backend = running.backends.get(stanza.backend.name)
            known = self._ids.setdefault(service, {})
            holders = {number: name for name, number in known.items()}
            for name, server in {} if backend is None else backend.servers.items():
                number = server.server.id
                if number is not None and known.get(name) != number:
                    known.pop(holders.get(number, ""), None)
                    known[name] = number
                    holders[number] = name
                    hit.append(service)
        return self._draft(dict.fromkeys(hit))

    def _follow(self, service: str) -> bool:
        entry = self.catalog.entries.get(service, Entry(()))
        hosts = frozenset(one.host for one in entry.instances if is_name(one.host))
        before = self._hosts.get(service, frozenset())
        if hosts:
            self._hosts[service] = hosts
        else:
            self._hosts.pop(service, None)
        return hosts != before

    def _draft(self, services: Iterable[str]) -> frozenset[str]:
        stanzas = []
        for service in services:
            entry = self.catalog.entries.get(service, Entry(()))
            if service in self._hosts:  # a name that is being looked up is neither served nor a fault yet
                known = tuple(
                    one for one in entry.instances if not is_name(one.host) or not self._names.pending(one.host)
                )
                entry = Entry(known)
            ids = self._ids.setdefault(service, {})
            drafted = draft(
                self._frame, service, entry, self._names.addresses, ids, refused=self._refused.get(service, ())
            )
            self._say(service, drafted.problems)
            fresh = {one.name: one.id for one in drafted.stanza.backend.servers if one.id is not None}
            for name, number in fresh.items():  # the newest stand at the end
                ids.pop(name, None)
                ids[name] = number
            over = len(ids) - len(fresh) - MOST_FORGOTTEN
            for name in list(ids)[:over] if over > 0 else ():
                del ids[name]
            self._remember(service, self.catalog.entries.get(service, Entry(())), ids)
            if drafted.stanza != self.wanted.stanzas.get(service):
                stanzas.append(drafted.stanza)
        if stanzas:
            self.wanted = self.wanted.with_stanzas(*stanzas)
        return frozenset(one.service for one in stanzas)

    def _say(self, service: str, problems: tuple[str, ...]) -> None:
        if problems == self._problems.get(service, ()):
            return
        for problem in problems:
            if problem not in self._problems.get(service, ()):
                self._emit(Warn(problem))
        self._problems[service] = problems
