"""Which services' own lines HAProxy has refused, and what stands in: the last lines that it took, or nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from dockstack.synapse.haproxy import sections
from dockstack.synapse.haproxy.binds import Bind
from dockstack.synapse.haproxy.document import Frame
from dockstack.synapse.haproxy.model import Document, Stanza
from dockstack.synapse.haproxy.place import rules
from dockstack.synapse.haproxy.sections import Skeleton


@dataclass(frozen=True, slots=True)
class _Refused:
    """`missed`: the addresses for want of which it was refused; with them it is to be tried again."""

    skeleton: Skeleton
    words: str
    missed: tuple[Bind, ...] = ()


@dataclass(frozen=True, slots=True)
class _Taken:
    """A stanza without servers, and the service's lines for the shared frontend."""

    bare: Stanza
    shared: tuple[str, ...]


class Sound:
    """What HAProxy has said about the services' own lines. One that was refused is tried again when it changes."""

    def __init__(self) -> None:
        self._taken: dict[str, _Taken] = {}
        self._refused: dict[str, _Refused] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each service that is not served as it is wanted."""
        return tuple(map(self.sentence, self._refused))

    def sentence(self, name: str) -> str:
        """What became of a service that was refused."""
        now = "the last that it took are in use" if name in self._taken else "the service is left out"
        refused = self._refused[name]
        what = "its address cannot be had" if refused.missed else "HAProxy does not take its settings"
        return f"service {name}: {what}, {now}: {refused.words}"

    @property
    def missed(self) -> Mapping[str, tuple[Bind, ...]]:
        """The addresses, by service, for want of which a service is not served as it is wanted."""
        return {name: one.missed for name, one in self._refused.items() if one.missed}

    def trust(self, document: Document, frame: Frame) -> None:
        """HAProxy has taken this document; `frame` is the one in force."""
        for name, stanza in document.stanzas.items():
            bare = replace(stanza, backend=replace(stanza.backend, servers=()))
            skeleton, before = frame.skeletons.get(name), self._taken.get(name)
            if skeleton is not None and skeleton.with_servers(()) == bare:
                self._taken[name] = _Taken(bare, skeleton.shared)
            elif before is None or before.bare != bare:
                self._taken[name] = _Taken(bare, ())

    def leave(
        self,
        services: Iterable[tuple[str, str]],
        given: Frame,
        in_force: Frame,
        missed: Mapping[str, tuple[Bind, ...]] = MappingProxyType({}),
    ) -> tuple[str, ...]:
        """HAProxy has refused the lines of these services, with these words, or will, for want of the addresses that
        are `missed`; returns those that were there."""
        hit = []
        for name, words in services:
            wanted, now = given.skeletons.get(name), in_force.skeletons.get(name)
            if wanted is None or now is None:
                continue
            if name in self._refused:  # it is what stands in that is refused now
                self._taken.pop(name, None)
            self._refused[name] = _Refused(wanted, words, missed.get(name, ()))
            taken = self._taken.get(name)
            if taken is not None and taken.bare == now.with_servers(()):
                del self._taken[name]
            hit.append(name)
        return tuple(hit)

    def forgive(self, services: Iterable[str] | None = None) -> None:
        """These services, or all, are to be tried again."""
        for name in tuple(self._refused) if services is None else services:
            self._refused.pop(name, None)

    def in_force(self, given: Frame) -> Frame:
        """The frame with what HAProxy takes in the place of what it has refused."""
        self._taken = {name: one for name, one in self._taken.items() if name in given.skeletons}
        self._refused = {name: one for name, one in self._refused.items() if given.skeletons.get(name) == one.skeleton}
        if not self._refused:
            return given
        layout, skeletons, laws = given.layout, dict(given.skeletons), dict(given.rules)
        for name in self._refused:
            taken = self._taken.get(name)
            if taken is None:
                del skeletons[name], laws[name]
                continue
            old = replace(
                skeletons[name], frontend=taken.bare.frontend, backend=taken.bare.backend, shared=taken.shared
            )
            skeletons[name] = old
            laws[name] = rules(name, given.services[name], layout.top, old.backend, layout.host)
        stanzas = {name: one.with_servers(()) for name, one in skeletons.items()}
        tail = sections.tail(layout.top, skeletons.values()).sections
        empty = Document(given.empty.head, MappingProxyType(stanzas), tail)
        return replace(given, empty=empty, skeletons=MappingProxyType(skeletons), rules=MappingProxyType(laws))
