"""Whom a file is refused for: one server or one service is left out by name, where HAProxy refuses the whole. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dockstack.synapse.haproxy.model import Document, Stanza
from dockstack.synapse.haproxy.server import write

_PLACE = re.compile(r"\[(?P<file>[^][]+):(?P<line>\d+)\]")
_NAMED = re.compile(
    r"'?server '?(?P<backend>[^\s'/]+)/(?P<server>[^\s'/]+)'"
    r"|\b(?:[Pp]roxy|[Bb]ackend) '(?P<in>[^']+)',? server '(?P<only>[^']+)'"
)
_PROXY = re.compile(r"\b(?:[Pp]roxy|[Bb]ackend|[Ff]rontend) '(?P<name>[^']+)'")

_LONGEST = 2000  # characters of a line that are told


@dataclass(frozen=True, slots=True)
class Blame:
    """Whose lines HAProxy names as wrong, with its words: (service, server, words), and words by service where the
    fault is in the service's own lines.

    `pointed`: it points at a line of such a service. Where it names the service alone, a server may be what it means.
    """

    servers: tuple[tuple[str, str, str], ...] = ()
    services: tuple[tuple[str, str], ...] = ()
    pointed: bool = False


def blamed(said: Iterable[str], text: str, file: Path, document: Document) -> Blame:
    """Who is to be left out, so that the rest is taken.

    `said` are the lines of `haproxy -c` about `file`, which holds `text`, the rendering of `document`. Where every
    service is named the fault is in what they share, and none of them is blamed.
    """
    lines = text.splitlines()
    servers: dict[tuple[str, str], str] = {}
    services: dict[str, str] = {}
    pointed = False
    titles = _titles(document)
    for alert in (line.strip() for line in said if "[ALERT]" in line):
        place, named, proxy = _PLACE.search(alert), _NAMED.search(alert), _PROXY.search(alert)
        if place is not None and place["file"] == str(file) and 0 < int(place["line"]) <= len(lines):
            at = int(place["line"]) - 1
            title = next((one for one in reversed(lines[: at + 1]) if one and not one[0].isspace()), "")
            line = lines[at].strip()
        elif named is not None:
            backend, one = named["backend"] or named["in"], named["server"] or named["only"]
            title, line = f"backend {backend}", f"server {one} "
        elif proxy is not None:
            title, line = _title(proxy["name"], titles), ""
        else:
            continue
        stanza = titles.get(title)
        if stanza is None:
            continue
        server = _server(stanza, line)
        if server is not None:
            servers.setdefault((stanza.service, server), alert)
        elif place is not None or named is None or line.split()[1] in stanza.backend.static:
            services.setdefault(stanza.service, quoted((alert,), text, file)[0])
            pointed = pointed or place is not None
    if len(services) == len(document.stanzas):
        services = {}
    told = tuple((service, server, words) for (service, server), words in servers.items())
    return Blame(told, tuple(services.items()), pointed)


def _titles(document: Document) -> Mapping[str, Stanza]:
    """The stanza of each section that belongs to a service, by its title; a title that others have too is nobody's."""
    found: dict[str, Stanza] = {}
    for stanza in document.stanzas.values():
        found[f"backend {stanza.backend.name}"] = stanza
        if stanza.frontend is not None:
            found[stanza.frontend.title] = stanza
    for section in (*document.head, *document.tail):
        found.pop(section.title, None)
    return found


def _title(name: str, titles: Mapping[str, Stanza]) -> str:
    """The section that a proxy's name means; a frontend and a backend of one name are the same service's as a rule."""
    return next((title for title in (f"backend {name}", f"frontend {name}") if title in titles), "")


def _server(stanza: Stanza, line: str) -> str | None:
    """The discovered server that the line of a stanza describes; None: it is one of the service's own lines."""
    if not line.startswith("server "):
        return None
    name = line.split()[1]
    known = any(one.name == name and write(one).startswith(line.strip()) for one in stanza.backend.servers)
    return name if known else None


def quoted(said: Iterable[str], text: str, file: Path) -> tuple[str, ...]:
    """HAProxy's words about `file`, which holds `text` and is not kept, each with the line that it points at."""
    lines = text.splitlines()

    def quote(words: str) -> str:
        place = _PLACE.search(words)
        if place is None or place["file"] != str(file) or not 0 < int(place["line"]) <= len(lines):
            return words
        return f"{words} (the line is: {lines[int(place['line']) - 1].strip()[:_LONGEST]})"

    return tuple(map(quote, said))
