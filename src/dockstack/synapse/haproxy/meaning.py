"""What a backend's lines, on top of the `defaults` section, mean for its servers. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress

from dockstack.synapse.haproxy.model import Backend, Section, Server
from dockstack.synapse.haproxy.server import number_in
from dockstack.synapse.haproxy.words import split

# Algorithms that look servers up in a table made at the start, unless `hash-type consistent` is said.
_BY_MAP = ("source", "uri", "url_param", "hdr", "rdp-cookie", "hash")

_MOST = 100_000  # servers that one template is believed to make: whoever asks for more is refused by memory


def backend(name: str, lines: tuple[str, ...], servers: tuple[Server, ...], defaults: Sequence[str]) -> Backend:
    """The backend of these lines, its meaning worked out; `defaults` are the lines of the defaults section."""
    both = (*defaults, *lines)
    return Backend(
        name=name,
        lines=lines,
        servers=servers,
        mode=(_arguments(both, "mode") or ["tcp"])[-1].split(" ")[0],
        dynamic=_is_dynamic(both),
        has_cookie=bool(_arguments(both, "cookie")),
        default_server=" ".join(_default_server(both)),
        static=frozenset(_static(lines)),
    )


def defaults_of(head: Sequence[Section]) -> tuple[str, ...]:
    """The lines of the defaults section that holds for what follows: the last one."""
    found = [section.lines for section in head if section.title.split()[:1] == ["defaults"]]
    return found[-1] if found else ()


def static_ids(lines: Sequence[str]) -> frozenset[int]:
    """Ids that `server` lines among a backend's own lines have taken."""
    found: set[int | None] = set()
    for text in _arguments(lines, "server"):
        words = text.split()
        found |= {number_in(after) for word, after in itertools.pairwise(words) if word == "id"}
    return frozenset(number for number in found if number is not None)


def _arguments(lines: Sequence[str], keyword: str) -> list[str]:
    """What stands behind this keyword, for each line that begins with it."""
    found = [line.split(None, 1) for line in lines if line.startswith(keyword)]
    return [" ".join(words[1:]) for words in found if words[0] == keyword]


def _default_server(lines: Sequence[str]) -> Iterator[str]:
    """The words of all `default-server` lines; a line that HAProxy does not take for whole has none."""
    for text in _arguments(lines, "default-server"):
        with suppress(ValueError):
            yield from split(text, comment=True)


def _is_dynamic(lines: Sequence[str]) -> bool:
    algorithm = (_arguments(lines, "balance") or ["roundrobin"])[-1].split()[:1]
    hashing = (_arguments(lines, "hash-type") or ["map-based"])[-1].split()[:1]
    if algorithm and algorithm[0].partition("(")[0] in _BY_MAP:
        return hashing == ["consistent"]
    return algorithm != ["static-rr"]


def _static(lines: Sequence[str]) -> Iterator[str]:
    for text in _arguments(lines, "server"):
        yield from text.split()[:1]
    for text in _arguments(lines, "server-template"):
        prefix, span = (*text.split()[:2], "", "")[:2]
        one, _, other = span.rpartition("-")
        first, last = number_in(one or "1"), number_in(other)
        if first is not None and last is not None:
            yield from (f"{prefix}{number}" for number in range(first, min(last + 1, first + _MOST)))
