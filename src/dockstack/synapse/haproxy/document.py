"""The catalog as the document that HAProxy is to load, one service at a time. Pure.

The frame is all that follows from the settings alone; the servers of a service are put into it when its entry changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from dockstack.errors import ConfigurationError
from dockstack.model import Catalog, Entry, Instance, patched
from dockstack.settings.synapse import HaproxySettings, SynapseService
from dockstack.synapse.haproxy import sections
from dockstack.synapse.haproxy.meaning import defaults_of
from dockstack.synapse.haproxy.model import (
    Admin,
    Backend,
    Document,
    Running,
    RunningBackend,
    RunningServer,
    Server,
    Stanza,
)
from dockstack.synapse.haproxy.place import Rules, place, rules
from dockstack.synapse.haproxy.sections import Skeleton
from dockstack.synapse.haproxy.server import is_disabled, same_options, weight


@dataclass(frozen=True, slots=True)
class Frame:
    """The document without servers, and for each service its skeleton and the rules for its servers."""

    layout: Layout
    services: Mapping[str, SynapseService]
    empty: Document
    skeletons: Mapping[str, Skeleton]
    rules: Mapping[str, Rules]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How services become sections. `additions` are our lines for `global`; `host` seeds the default order."""

    top: HaproxySettings
    additions: tuple[str, ...]
    host: str

    def frame(self, services: Mapping[str, SynapseService], before: Frame | None = None) -> Frame:
        """The frame of these services; those with the same settings as in `before` are taken from there.

        Raises ConfigurationError with all lines that HAProxy no longer takes.
        """
        head = sections.head(self.top, self.additions)
        defaults = defaults_of(head.sections)
        same = _unchanged(self, services, before)
        skeletons: dict[str, Skeleton] = {}
        laws: dict[str, Rules] = {}
        for name, own in services.items():
            if before is not None and name in same:
                skeletons[name], laws[name] = before.skeletons[name], before.rules[name]
            elif (skeleton := sections.skeleton(name, own.haproxy, self.top, defaults)) is not None:
                skeletons[name] = skeleton
                laws[name] = rules(name, own, self.top, skeleton.backend, self.host)
        tail = sections.tail(self.top, skeletons.values())
        problems = (*head.problems, *(one for each in skeletons.values() for one in each.problems), *tail.problems)
        if problems:
            raise ConfigurationError(*problems)
        warnings = (*head.warnings, *(one for each in skeletons.values() for one in each.warnings), *tail.warnings)
        stanzas = {name: one.with_servers(()) for name, one in skeletons.items()}
        empty = Document(head.sections, MappingProxyType(stanzas), tail.sections)
        return Frame(self, services, empty, skeletons, laws, warnings)

    def look(self, name: str, own: SynapseService) -> Look:
        """What one service alone would be in the file."""
        defaults = defaults_of(sections.head(self.top, self.additions).sections)
        skeleton = sections.skeleton(name, own.haproxy, self.top, defaults)
        if skeleton is None:
            return Look()
        lines = () if skeleton.frontend is None else skeleton.frontend.lines
        binds = (words[1] for line in lines if (words := line.split())[:1] == ["bind"] and len(words) > 1)
        return Look(tuple(map(str, skeleton.problems)), frozenset(binds))


@dataclass(frozen=True, slots=True)
class Look:
    """Of one service: why HAProxy would not take it, and the addresses that it listens on, as they are written."""

    problems: tuple[str, ...] = ()
    binds: frozenset[str] = frozenset()


def frame(top: HaproxySettings, services: Mapping[str, SynapseService], additions: Sequence[str], host: str) -> Frame:
    """The frame of a whole file's settings (see `Layout`). Raises ConfigurationError."""
    return Layout(top, tuple(additions), host).frame(services)


def _unchanged(layout: Layout, services: Mapping[str, SynapseService], before: Frame | None) -> frozenset[str]:
    if before is None or before.layout is not layout:
        return frozenset()
    return frozenset(name for name in before.skeletons if services.get(name) is before.services[name])


@dataclass(frozen=True, slots=True)
class Picture:
    """All that HAProxy is to serve: how services are laid out, their settings, and their instances."""

    layout: Layout
    services: Mapping[str, SynapseService]
    catalog: Catalog = field(default_factory=Catalog)

    def with_entry(self, service: str, entry: Entry) -> Picture:
        """The picture in which a service has this entry."""
        return replace(self, catalog=self.catalog.with_entry(service, entry))

    def with_service(self, name: str, own: SynapseService) -> Picture:
        """The picture in which a service has these settings."""
        return replace(self, services=patched(self.services, {name: own}))


@dataclass(frozen=True, slots=True)
class Drafted:
    """A service's stanza, and a sentence for each instance that is not in it. `offered` are its servers with those that
    HAProxy has refused."""

    stanza: Stanza
    problems: tuple[str, ...]
    offered: tuple[Server, ...] = ()


def draft(
    frame: Frame,
    service: str,
    entry: Entry,
    addresses: Mapping[str, str],
    known: Mapping[str, int],
    *,
    departed: Sequence[Instance] = (),
    refused: Collection[Server] = (),
) -> Drafted:
    """A service with its servers. `refused` are servers that HAProxy does not take as they are; they are left out.

    `addresses`, `known` and `departed` as for `place`.
    """
    placed = place(frame.rules[service], entry, addresses, known, departed)
    servers = tuple(one for one in placed.servers if one not in refused) if refused else placed.servers
    return Drafted(frame.skeletons[service].with_servers(servers), placed.problems, placed.servers)


def settled(wanted: Document, structure: Document, running: Running) -> Document:
    """The file that equals what runs: `structure` as it is loaded, with those wanted servers that HAProxy has taken.

    A server of `structure` that is still wanted but whose change HAProxy has not taken stays as it was.
    """
    stanzas = {name: _settled(stanza, wanted.stanzas.get(name), running) for name, stanza in structure.stanzas.items()}
    return Document(structure.head, MappingProxyType(stanzas), structure.tail)


def _settled(old: Stanza, new: Stanza | None, running: Running) -> Stanza:
    if new is None or new.backend.name != old.backend.name:
        return old
    has = running.backends.get(new.backend.name, RunningBackend()).servers
    before = {one.name: one for one in old.backend.servers}
    servers: list[Server] = []
    for server in new.backend.servers:
        now = has.get(server.name)
        if is_disabled(server) or (now is not None and _is_taken(now, server, old.backend)):
            servers.append(server)
        elif server.name in before:
            servers.append(before[server.name])
    return replace(old, backend=replace(old.backend, servers=tuple(servers)))


def _is_taken(now: RunningServer, server: Server, backend: Backend) -> bool:
    has = now.server
    return (
        now.known
        and now.admin is Admin.READY
        and now.weight == weight(server, backend.default_server)
        and has.address == server.address
        and (has.id == server.id or None in (has.id, server.id))
        and (has.cookie == server.cookie or not backend.has_cookie)
        and same_options(has.options, server.options)
    )


def static_names(*documents: Document | None) -> Mapping[str, frozenset[str]]:
    """By backend, the names of the servers that the backend's own lines declare."""
    backends = [stanza.backend for document in documents if document for stanza in document.stanzas.values()]
    return {one.name: one.static for one in backends if one.static}
