"""A file that we wrote, read back as a document. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import MappingProxyType

from dockstack.synapse.haproxy import meaning, server
from dockstack.synapse.haproxy.model import Document, Section, Server, Stanza
from dockstack.synapse.haproxy.render import MARK_LINE, SERVERS_LINE, SERVICE_LINE, SHARED_LINE


def parse(text: str) -> Document:
    """The document that the text was rendered from. Raises ValueError where it is not one of ours."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    for line in text.split("\n"):
        if line.startswith((SERVICE_LINE, SHARED_LINE)):
            parts.append((line, []))
        elif line.strip():
            parts[-1][1].append(line)
    head = tuple(_sections(parts[0][1]))
    defaults = meaning.defaults_of(head)
    stanzas: dict[str, Stanza] = {}
    tail: tuple[Section, ...] = ()
    for title, lines in parts[1:]:
        if title.startswith(SHARED_LINE):
            tail = tuple(_sections(lines))
        else:
            service = title.removeprefix(SERVICE_LINE)
            stanzas[service] = _stanza(service, tuple(_sections(lines)), defaults)
    return Document(head, MappingProxyType(stanzas), tail)


def _sections(lines: Iterable[str]) -> Iterator[Section]:
    title: str | None = None
    own: list[str] = []
    for line in lines:
        if line.startswith("\t"):
            if title is None:
                raise ValueError(f"`{line.strip()}` stands before the first section")
            if not line.startswith(f"\t{MARK_LINE} "):
                own.append(line[1:])  # a word may end with an escaped space
        elif not line.startswith("#"):
            if title is not None:
                yield Section(title, tuple(own))
            title, own = line, []
    if title is not None:
        yield Section(title, tuple(own))


def _stanza(service: str, sections: tuple[Section, ...], defaults: tuple[str, ...]) -> Stanza:
    *frontends, last = sections or (Section(""),)
    kind, _, name = last.title.partition(" ")
    if kind != "backend" or len(frontends) > 1:
        raise ValueError(f"service {service} is not one frontend and one backend")
    lines, servers = _split_servers(last.lines)
    frontend = frontends[0] if frontends else None
    return Stanza(service, frontend, meaning.backend(name, lines, servers, defaults))


def _split_servers(lines: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Server, ...]]:
    if SERVERS_LINE in lines:
        at = lines.index(SERVERS_LINE)
        own, discovered = lines[:at], lines[at + 1 :]
    else:
        own = tuple(line for line in lines if not line.startswith("server "))
        discovered = tuple(line for line in lines if line.startswith("server "))
    return own, tuple(map(server.read, discovered))
