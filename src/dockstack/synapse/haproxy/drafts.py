"""The wanted document, kept equal to the newest picture: only the services that changed are drafted again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from dockstack.events import Emit, Warn
from dockstack.model import Catalog, Entry, Instance
from dockstack.registry.url import is_name
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.events import ServerRefused
from dockstack.synapse.haproxy.document import Frame, Picture, draft
from dockstack.synapse.haproxy.model import Document, Running, Server
from dockstack.synapse.names import Names

Remember = Callable[[str, Entry, Mapping[str, int]], None]
"""Told a service's entry and the ids of its servers whenever they have changed."""

MOST_FORGOTTEN = 1024
"""Ids kept for servers of one service that are gone, the newest: one that comes back gets its own again."""


class History(Protocol):
    """What the writer needs of the memory of servers that have left."""

    def see(self, service: str, own: SynapseService, entry: Entry, ids: Mapping[str, int]) -> None:
        """A service has these instances now, and its servers these ids."""

    def departed(self, service: str) -> tuple[Instance, ...]:
        """The instances that have left a service and are to be listed as disabled."""


class Drafts:
    """Holds the wanted document. `names` resolves hosts; `remember` saves what a restart must know. No I/O.

    `past` knows the servers that have left; without it they are not listed.
    """

    def __init__(
        self,
        names: Names,
        ids: Mapping[str, Mapping[str, int]],
        remember: Remember,
        emit: Emit,
        past: History | None = None,
    ) -> None:
        self._names = names
        self._ids = {service: dict(known) for service, known in ids.items()}
        self._remember = remember
        self._past = past
        self._emit = emit
        self._frame: Frame | None = None
        self._hosts: dict[str, frozenset[str]] = {}
        self._refused: dict[str, set[Server]] = {}
        self._problems: dict[str, tuple[str, ...]] = {}
        self._catalog = Catalog()
        self.picture: Picture | None = None
        self.wanted = Document()

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each instance that is not served at present."""
        return tuple(problem for each in self._problems.values() for problem in each)

    def take(self, picture: Picture) -> frozenset[str]:
        """Makes the document that of this picture; returns the services whose stanza is a new one, or is gone.

        "" is among them where the sections around the services have become others.
        """
        if picture is self.picture:
            return frozenset()
        self.picture = picture
        frame, reframed = self._frame, frozenset[str]()
        if frame is None or picture.services is not frame.services or picture.layout is not frame.layout:
            reframed = self._reframe(picture.layout.frame(picture.services, frame))
        last, self._catalog = self._catalog, picture.catalog
        changed = picture.catalog.changed_since(last)
        self._see(dict.fromkeys((*reframed, *changed)))
        moved = [name for name in changed if self._follow(name)]
        if moved:
            self._names.want(host for hosts in self._hosts.values() for host in hosts)
        return self._draft(dict.fromkeys((*reframed, *changed))) | reframed

    def _reframe(self, new: Frame) -> frozenset[str]:
        """Takes new settings; returns the services whose skeleton or rules are others, and those that are gone."""
        old, self._frame = self._frame, new
        names = {**new.skeletons, **({} if old is None else old.skeletons)}
        changed = frozenset(
            name
            for name in names
            if old is None
            or old.skeletons.get(name) != new.skeletons.get(name)
            or old.rules.get(name) != new.rules.get(name)
        )
        for name in names.keys() - new.skeletons.keys():
            for memory in (self._hosts, self._refused, self._problems, self._ids):
                memory.pop(name, None)
        kept = self.wanted.stanzas
        stanzas = {
            name: kept[name] if name in kept and name not in changed else empty
            for name, empty in new.empty.stanzas.items()
        }
        around = (self.wanted.head, self.wanted.tail) != (new.empty.head, new.empty.tail)
        self.wanted = Document(new.empty.head, MappingProxyType(stanzas), new.empty.tail)
        return changed | {""} if around and old is not None else changed

    def again(self, services: Iterable[str]) -> frozenset[str]:
        """Drafts these services again; returns those whose stanza is a new one."""
        return self._draft(services)

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
        found = {name: (one.server for one in each.servers.values()) for name, each in running.backends.items()}
        return self._learn(found)

    def recall(self, document: Document) -> frozenset[str]:
        """Takes over the ids of the file of the last run, as `learn` does: it follows a change sooner than the
        snapshot, and what it holds was served."""
        return self._learn({one.backend.name: one.backend.servers for one in document.stanzas.values()})

    def _learn(self, found: Mapping[str, Iterable[Server]]) -> frozenset[str]:
        hit = []
        for service, stanza in self.wanted.stanzas.items():
            known = self._ids.setdefault(service, {})
            holders = {number: name for name, number in known.items()}
            for server in found.get(stanza.backend.name, ()):
                name, number = server.name, server.id
                if number is not None and known.get(name) != number:
                    known.pop(holders.get(number, ""), None)
                    known[name] = number
                    holders[number] = name
                    hit.append(service)
        return self._draft(dict.fromkeys(hit))

    def _see(self, services: Iterable[str]) -> None:
        past, frame = self._past, self._frame
        if past is None or frame is None:
            return
        for service in services:
            entry = self._catalog.entries.get(service)
            if entry is not None and service in frame.skeletons:
                past.see(service, frame.services[service], entry, self._ids.setdefault(service, {}))

    def _departed(self, service: str) -> tuple[Instance, ...]:
        return () if self._past is None else self._past.departed(service)

    def _follow(self, service: str) -> bool:
        entry = self._catalog.entries.get(service, Entry(()))
        # A server that leaves needs its address as long as it is listed: its name is followed once more.
        hosts = frozenset(one.host for one in (*entry.instances, *self._departed(service)) if is_name(one.host))
        before = self._hosts.get(service, frozenset())
        if hosts:
            self._hosts[service] = hosts
        else:
            self._hosts.pop(service, None)
        return hosts != before

    def _draft(self, services: Iterable[str]) -> frozenset[str]:
        stanzas = []
        frame = self._frame
        for service in services:
            if frame is None or service not in frame.skeletons:
                continue
            entry = self._catalog.entries.get(service, Entry(()))
            if service in self._hosts:  # a name that is being looked up is neither served nor a fault yet
                known = tuple(
                    one for one in entry.instances if not is_name(one.host) or not self._names.pending(one.host)
                )
                entry = Entry(known)
            ids = self._ids.setdefault(service, {})
            drafted = draft(
                frame,
                service,
                entry,
                self._names.addresses,
                ids,
                departed=self._departed(service),
                refused=self._refused.get(service, ()),
            )
            self._say(service, drafted.problems)
            fresh = {one.name: one.id for one in drafted.stanza.backend.servers if one.id is not None}
            for name, number in fresh.items():  # the newest stand at the end
                ids.pop(name, None)
                ids[name] = number
            over = len(ids) - len(fresh) - MOST_FORGOTTEN
            for name in list(ids)[:over] if over > 0 else ():
                del ids[name]
            self._remember(service, self._catalog.entries.get(service, Entry(())), ids)
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
