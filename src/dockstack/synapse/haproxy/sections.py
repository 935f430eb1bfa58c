"""The settings as sections of the file, all but the servers. Pure.

A service's skeleton changes with its settings only; each new set of servers is put into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dockstack.errors import Problem
from dockstack.settings.synapse import HaproxySettings, ServiceHaproxy
from dockstack.synapse.haproxy import meaning
from dockstack.synapse.haproxy.keywords import lookup
from dockstack.synapse.haproxy.model import Backend, Section, Server, Stanza
from dockstack.synapse.haproxy.sides import bare, modern_section, shared_top, sides

SHARED_TITLE = "frontend shared-frontend"
_SECTIONS_OF_PROXIES = ("defaults", "frontend", "backend", "listen")


@dataclass(frozen=True, slots=True)
class Head:
    """The sections before the services; `warnings` are sentences, `problems` must be mended."""

    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A service's sections without its servers, its lines for the shared frontend, and what there is to say."""

    service: str
    frontend: Section | None
    backend: Backend
    shared: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def with_servers(self, servers: tuple[Server, ...]) -> Stanza:
        """The service's stanza."""
        return Stanza(self.service, self.frontend, replace(self.backend, servers=servers))


def head(top: HaproxySettings, additions: Sequence[str] = ()) -> Head:
    """`global`, `defaults` and the extra sections, in this order.

    Each of `additions` goes to the end of `global` unless a line there says the same thing already.
    """
    said = {_subject(line) for line in bare(top.global_)}
    ours = tuple(line for line in additions if _subject(line) not in said)
    sections = [
        Section("global", (*bare(top.global_), *ours)),
        Section("defaults", bare(top.defaults)),
        *(Section(" ".join(title.split()), bare(lines)) for title, lines in top.extra_sections.items()),
    ]
    if not top.do_reloads:
        return Head(tuple(sections))
    warnings: list[str] = []
    modern = []
    for section in sections:
        new, rewritten = modern_section(section)
        modern.append(new)
        warnings += [f"haproxy: {one}" for one in rewritten]
    return Head(tuple(modern), tuple(warnings), tuple(_removed(sections)))


def _subject(line: str) -> tuple[str, ...]:
    """What a line of `global` is about: its keyword; each stats socket is a thing of its own."""
    words = line.split()
    return tuple(words[:3]) if words[:2] == ["stats", "socket"] else tuple(words[:1])


def _removed(sections: Iterable[Section]) -> Iterable[Problem]:
    for section in sections:
        if section.title.split()[0] not in _SECTIONS_OF_PROXIES:
            continue
        for line in section.lines:
            keyword = lookup(line)
            if keyword is not None and keyword.instead is not None:
                what = f"`{line}`: HAProxy does not take `{keyword.name}`; write {keyword.instead} instead"
                yield Problem(f"haproxy.{section.title}", what)


def skeleton(service: str, own: ServiceHaproxy, top: HaproxySettings, defaults: Sequence[str]) -> Skeleton | None:
    """A service's sections, or None where its `haproxy` section is disabled.

    `defaults` are the lines of the defaults section in force (`meaning.defaults_of`).
    """
    if own.disabled:
        return None
    where = f"services.{service}.haproxy"
    lines = sides(where, own, modern=top.do_reloads)
    name = own.backend_name or service
    frontend = None
    if own.listens:
        tail = (_bind(own, top), f"default_backend {name}")
        frontend = Section(f"frontend {service}", (*lines.frontend, *tail))
    warnings = [*lines.dropped, *lines.rewritten]
    if lines.shared and not _shares(top):
        warnings.append(f"{where}.shared_frontend: the top haproxy section has no shared_frontend; it is left out")
    return Skeleton(
        service=service,
        frontend=frontend,
        backend=meaning.backend(name, lines.backend, (), defaults),
        shared=lines.shared,
        warnings=tuple(warnings),
        newer=lines.newer,
        problems=lines.problems,
    )


def _bind(own: ServiceHaproxy, top: HaproxySettings) -> str:
    host = own.bind_address or top.bind_address
    if own.port is not None:
        host = f"{host}:{own.port}"  # no brackets are needed: the port is what stands behind the last colon
    return f"bind {host} {own.bind_options}" if own.bind_options else f"bind {host}"


def _shares(top: HaproxySettings) -> bool:
    return "shared_frontend" in top.model_fields_set


def tail(top: HaproxySettings, skeletons: Iterable[Skeleton]) -> Head:
    """The sections behind the services: the shared frontend, if the top section has one."""
    if not _shares(top):
        return Head(())
    lines = shared_top("haproxy", top.shared_frontend, modern=top.do_reloads)
    every = (*lines.shared, *(line for one in skeletons for line in one.shared))
    return Head((Section(SHARED_TITLE, every),), (*lines.dropped, *lines.rewritten), lines.problems)
