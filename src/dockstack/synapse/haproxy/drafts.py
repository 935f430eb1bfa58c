"""The wanted document, kept equal to the newest picture: only the services that changed are drafted again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from dockstack.events import Emit, Warn
from dockstack.model import Catalog, Entry, Instance
from dockstack.registry.url import is_name
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.events import ServerRefused, ServiceRefused
from dockstack.synapse.haproxy.binds import Bind
from dockstack.synapse.haproxy.document import Drafted, Frame, Picture, draft
from dockstack.synapse.haproxy.model import Document, Running, Server, Stanza
from dockstack.synapse.haproxy.server import is_disabled
from dockstack.synapse.haproxy.sound import Sound
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

    def forget(self, service: str) -> None:
        """A service is HAProxy's no more: all its servers have left."""


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
        self._given: Frame | None = None
        self._frame: Frame | None = None
        self._sound = Sound()
        self._hosts: dict[str, frozenset[str]] = {}
        self._refused: dict[str, dict[Server, str]] = {}
        self._problems: dict[str, tuple[str, ...]] = {}
        self._proven: dict[str, tuple[Server, ...]] = {}
        self._catalog = Catalog()
        self.taken = Document()
        self.picture: Picture | None = None
        self.wanted = Document()

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each instance, and for each service, that is not served as it is wanted."""
        servers = (sentence for each in self._refused.values() for sentence in each.values())
        instances = (problem for each in self._problems.values() for problem in each)
        return (*self._sound.problems, *servers, *instances)

    def take(self, picture: Picture) -> frozenset[str]:
        """Makes the document that of this picture; returns the services whose stanza is a new one, or is gone.

        "" is among them where the sections around the services have become others.
        """
        if picture is self.picture:
            return frozenset()
        self.picture = picture
        given, reframed = self._given, frozenset[str]()
        if given is None or picture.services is not given.services or picture.layout is not given.layout:
            if given is not None and picture.layout is not given.layout:
                self._sound.forgive()  # somebody has asked for all settings anew: a file that was missing may be there
            self._given = picture.layout.frame(picture.services, given)
            reframed = self._reframe(self._given)
            self._forget(() if given is None else given.skeletons.keys() - self._given.skeletons.keys())
        last, self._catalog = self._catalog, picture.catalog
        touched = dict.fromkeys((*reframed, *picture.catalog.changed_since(last)))
        self._see(touched)
        moved = [name for name in touched if self._follow(name)]
        if moved or reframed:
            self._names.want(host for hosts in self._hosts.values() for host in hosts)
        return self._draft(touched) | reframed

    def _forget(self, services: Iterable[str]) -> None:
        for name in services:
            for memory in (self._hosts, self._refused, self._problems, self._ids, self._proven):
                memory.pop(name, None)
            if self._past is not None:
                self._past.forget(name)

    def _reframe(self, given: Frame) -> frozenset[str]:
        """Takes new settings; returns the services whose skeleton or rules are others, and those that are gone."""
        old, new = self._frame, self._sound.in_force(given)
        self._frame = new
        names = {**new.skeletons, **({} if old is None else old.skeletons)}
        changed = frozenset(
            name
            for name in names
            if old is None
            or old.skeletons.get(name) != new.skeletons.get(name)
            or old.rules.get(name) != new.rules.get(name)
        )
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
                event = ServerRefused(service, name, line)
                self._refused.setdefault(service, {}).update(dict.fromkeys(found, str(event)))
                self._emit(event)
                hit.append(service)
        return self._draft(dict.fromkeys(hit))

    def leave(
        self, services: Iterable[tuple[str, str]], missed: Mapping[str, tuple[Bind, ...]] = MappingProxyType({})
    ) -> frozenset[str]:
        """Leaves the settings of these services as they were when HAProxy took them last, or the services out, until
        their settings change or `retry` is called. Returns what is new for it, as `take` does. Each is a service, and
        HAProxy's words; `missed` are the addresses that it cannot have, by service.
        """
        if self._given is None or self._frame is None:
            return frozenset()
        hit = self._sound.leave(services, self._given, self._frame, missed)
        if not hit:
            return frozenset()
        for name in hit:
            self._emit(ServiceRefused(self._sound.sentence(name)))
        reframed = self._reframe(self._given)
        return self._draft(reframed) | reframed

    @property
    def missed(self) -> Mapping[str, tuple[Bind, ...]]:
        """The addresses, by service, for want of which a service is not served as it is wanted."""
        return self._sound.missed

    def retry(self, services: Iterable[str]) -> frozenset[str]:
        """Wants these services, which were left, as they are given; returns what is new for it, as `take` does."""
        self._sound.forgive(services)
        reframed = frozenset[str]() if self._given is None else self._reframe(self._given)
        return self._draft(reframed) | reframed

    def prove(self, services: Iterable[str]) -> None:
        """HAProxy has all servers of these services as they are wanted now: they can stand in for worse ones later."""
        for service in services:
            if (stanza := self.wanted.stanzas.get(service)) is not None and (active := _active(stanza)):
                self._proven[service] = active

    def trust(self, document: Document) -> None:
        """HAProxy takes this document: what is in it can stand in for what it refuses later, and is not suspected."""
        self.taken = document
        for service, stanza in document.stanzas.items():
            if active := _active(stanza):
                self._proven[service] = active
        if self._frame is not None:
            self._sound.trust(document, self._frame)

    def learn(self, running: Running) -> frozenset[str]:
        """Takes over the ids that servers have in the running process; returns the services that are new for it."""
        if running.loaded is not None:
            self.trust(running.loaded)
        found = {name: (one.server for one in each.servers.values()) for name, each in running.backends.items()}
        return self._learn(found)

    def recall(self, document: Document) -> frozenset[str]:
        """Takes over the ids of the file of the last run, as `learn` does: it follows a change sooner than the
        snapshot, and what it holds was served."""
        self.trust(document)
        return self._learn({one.backend.name: one.backend.servers for one in document.stanzas.values()})

    def _learn(self, found: Mapping[str, Iterable[Server]]) -> frozenset[str]:
        hit = []
        for service, stanza in self.wanted.stanzas.items():
            if service in self._proven and not _active(stanza):
                hit.append(service)
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
        """Notes which names the service has, none where it is not HAProxy's; whether they are others than before."""
        ours = self._given is not None and service in self._given.skeletons
        entry = self._catalog.entries.get(service, Entry(()))
        # A server that leaves needs its address as long as it is listed: its name is followed once more.
        every = (*entry.instances, *self._departed(service)) if ours else ()
        hosts = frozenset(one.host for one in every if is_name(one.host))
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
                if self._given is not None and service in self._given.skeletons:  # left out, and known all the same
                    ids = self._ids.setdefault(service, {})
                    self._remember(service, self._catalog.entries.get(service, Entry(())), ids)
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
            self._forgive(service, drafted.offered)
            stanza, problems = self._never_empty(service, drafted)
            self._say(service, problems)
            fresh = {one.name: one.id for one in stanza.backend.servers if one.id is not None}
            for name, number in fresh.items():  # the newest stand at the end
                ids.pop(name, None)
                ids[name] = number
            over = len(ids) - len(fresh) - MOST_FORGOTTEN
            for name in list(ids)[:over] if over > 0 else ():
                del ids[name]
            self._remember(service, self._catalog.entries.get(service, Entry(())), ids)
            if stanza != self.wanted.stanzas.get(service):
                stanzas.append(stanza)
        if stanzas:
            self.wanted = self.wanted.with_stanzas(*stanzas)
        return frozenset(one.service for one in stanzas)

    def _never_empty(self, service: str, drafted: Drafted) -> tuple[Stanza, tuple[str, ...]]:
        """The service's stanza, with the servers that HAProxy had before where instances are registered and none of
        them can be served; and what there is to say."""
        stanza = drafted.stanza
        known, refused = self._proven.get(service, ()), self._refused.get(service, ())
        if not known or not all(map(is_disabled, stanza.backend.servers)):
            return stanza, drafted.problems
        kept = tuple(one for one in known if one not in refused and one.name not in stanza.backend.static)
        registered = self._catalog.entries.get(service, Entry(())).instances
        allowed = self._frame is not None and self._frame.services[service].use_previous_backends
        if not (allowed and registered and kept):
            return stanza, drafted.problems
        names = {one.name for one in kept}
        listed = (*kept, *(one for one in stanza.backend.servers if one.name not in names))
        stanza = replace(stanza, backend=replace(stanza.backend, servers=listed))
        if not (drafted.problems or refused):  # the names of hosts are being looked up
            return stanza, ()
        said = f"no instance that is registered can be served; the {len(kept)} of before stay in service"
        return stanza, (*drafted.problems, f"service {service}: {said}")

    def _forgive(self, service: str, offered: Collection[Server]) -> None:
        """A server that was refused is forgotten when it is not described like this any more."""
        if service in self._refused:
            kept = {one: said for one, said in self._refused.pop(service).items() if one in offered}
            if kept:
                self._refused[service] = kept

    def _say(self, service: str, problems: tuple[str, ...]) -> None:
        if problems == self._problems.get(service, ()):
            return
        for problem in problems:
            if problem not in self._problems.get(service, ()):
                self._emit(Warn(problem))
        self._problems[service] = problems


def _active(stanza: Stanza) -> tuple[Server, ...]:
    return tuple(one for one in stanza.backend.servers if not is_disabled(one))
