"""Which servers a file is refused for: a bad line is left out by name, where HAProxy refuses the whole file. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dockstack.synapse.haproxy.model import Document
from dockstack.synapse.haproxy.server import write

_PLACE = re.compile(r"\[(?P<file>[^][]+):(?P<line>\d+)\]")
_NAMED = re.compile(r"'?server '?(?P<backend>[^\s'/]+)/(?P<server>[^\s'/]+)'")


def blamed(said: Iterable[str], text: str, file: Path, document: Document) -> tuple[tuple[str, str, str], ...]:
    """(service, server, HAProxy's words) for each discovered server whose line HAProxy names as wrong.

    `said` are the lines of `haproxy -c` about `file`, which holds `text`, the rendering of `document`.
    """
    lines = text.splitlines()
    alerts = [line for line in said if "[ALERT]" in line]
    found: dict[tuple[str, str], str] = {}
    by_backend = {stanza.backend.name: stanza for stanza in document.stanzas.values()}
    for alert in alerts:
        place = _PLACE.search(alert)
        named = _NAMED.search(alert)
        if place is not None and place["file"] == str(file) and 0 < int(place["line"]) <= len(lines):
            at = int(place["line"]) - 1
            title = next((one for one in reversed(lines[:at]) if one and not one[0].isspace()), "")
            backend, line = title.removeprefix("backend "), lines[at].strip()
        elif named is not None:
            backend, line = named["backend"], f"server {named['server']} "
        else:
            continue
        stanza = by_backend.get(backend)
        if stanza is None or not line.startswith("server "):
            continue
        name = line.split()[1]
        if any(one.name == name and write(one).startswith(line.strip()) for one in stanza.backend.servers):
            found.setdefault((stanza.service, name), alert.strip())
    return tuple((service, server, line) for (service, server), line in found.items())


def quoted(said: Iterable[str], text: str, file: Path) -> tuple[str, ...]:
    """HAProxy's words about `file`, which holds `text` and is not kept, each with the line that it points at."""
    lines = text.splitlines()

    def quote(words: str) -> str:
        place = _PLACE.search(words)
        if place is None or place["file"] != str(file) or not 0 < int(place["line"]) <= len(lines):
            return words
        return f"{words} (the line is: {lines[int(place['line']) - 1].strip()})"

    return tuple(map(quote, said))
