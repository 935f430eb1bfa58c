"""A document as the text of haproxy.cfg, and the mark of its structure. Pure.

The text of a stanza is kept beside it: a change in one service writes that stanza anew and no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dockstack.model import moved, patched
from dockstack.synapse.haproxy.model import Document, Section, Stanza
from dockstack.synapse.haproxy.server import write

FIRST_LINE = "# written by dockstack synapse: a change made here by hand is lost"
SERVICE_LINE = "# service "
SHARED_LINE = "# shared by the services"
SERVERS_LINE = "# discovered"
MARK_LINE = "setenv DOCKSTACK_MARK"


@dataclass(frozen=True, slots=True)
class Page:
    """The text of a stanza in UTF-8, and the digest of that without the servers."""

    data: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Rendered:
    """The file in pieces. `mark` names the structure: all that cannot change without a reload."""

    document: Document
    top: tuple[str, str]
    pages: Mapping[str, Page]
    bottom: str
    mark: str
    marked: bool

    @property
    def chunks(self) -> tuple[bytes, ...]:
        """The whole file in UTF-8, one after the other; ends with a newline.

        To put a file of a thousand services together as one text costs more than to write it.
        """
        mark = f"\t{MARK_LINE} {self.mark}\n" if self.marked else ""
        top = f"{self.top[0]}{mark}{self.top[1]}".encode()
        return (top, *[page.data for page in self.pages.values()], self.bottom.encode())

    @property
    def text(self) -> str:
        """The whole file; ends with a newline."""
        return b"".join(self.chunks).decode()


def render(document: Document, before: Rendered | None = None, marked: bool = True) -> Rendered:
    """The text of a document; what has not changed since `before` is taken from there.

    `marked`: `global` gets a line that the running process can be asked for, to tell which structure it has loaded.
    """
    old: Mapping[str, Page] = MappingProxyType({}) if before is None else before.pages
    stanzas = MappingProxyType({}) if before is None else before.document.stanzas
    fresh = {service: _page(document.stanzas[service]) for service in moved(document.stanzas, stanzas)}
    restructured = any(service not in old or old[service].digest != page.digest for service, page in fresh.items())
    pages: Mapping[str, Page] = patched(old, fresh)
    if list(pages) != list(document.stanzas):
        restructured = True
        pages = MappingProxyType({service: pages[service] for service in document.stanzas})
    kept = before is not None and before.document.head is document.head
    top = before.top if before is not None and kept else _top(document.head)
    bottom = f"\n{SHARED_LINE}\n" + "\n".join(map(_section, document.tail)) if document.tail else ""
    same = before is not None and not restructured and (top, bottom) == (before.top, before.bottom)
    name = before.mark if before is not None and same else _mark(top, pages, bottom)
    has_global = any(one.title == "global" for one in document.head)
    return Rendered(document, top, pages, bottom, name, marked and has_global)


def mark(document: Document) -> str:
    """The mark of a document's structure: equal where only server lines differ."""
    return render(document).mark


def _mark(top: tuple[str, str], pages: Mapping[str, Page], bottom: str) -> str:
    digest = hashlib.sha256("\0".join((*top, bottom)).encode())
    for service in sorted(pages):
        digest.update(pages[service].digest)
    return digest.hexdigest()[:16]


def _top(head: tuple[Section, ...]) -> tuple[str, str]:
    at = next((index + 1 for index, one in enumerate(head) if one.title == "global"), 0)
    texts = [_section(one) if index < 2 else f"\n{_section(one)}" for index, one in enumerate(head)]
    return f"{FIRST_LINE}\n{''.join(texts[:at])}", "".join(texts[at:])


def _section(section: Section) -> str:
    return "".join((section.title, "\n", *(f"\t{line}\n" for line in section.lines)))


def _page(stanza: Stanza) -> Page:
    backend = stanza.backend
    structure = f"\n{SERVICE_LINE}{stanza.service}\n"
    if stanza.frontend is not None:
        structure += f"{_section(stanza.frontend)}\n"
    structure += _section(Section(f"backend {backend.name}", backend.lines))
    if backend.static:
        structure += f"\t{SERVERS_LINE}\n"
    servers = "".join(f"\t{write(server)}\n" for server in backend.servers)
    return Page((structure + servers).encode(), hashlib.sha256(structure.encode()).digest())
