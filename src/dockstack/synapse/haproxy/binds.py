"""The addresses that a document has HAProxy listen on, as far as anybody else can try them. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dockstack.synapse.haproxy.model import Document, Section
from dockstack.synapse.haproxy.server import number_in
from dockstack.synapse.haproxy.words import split

_OTHER_WORLD = frozenset({"interface", "namespace", "transparent"})
"""Words with which HAProxy can have an address that a plain socket cannot, or the other way round."""

_MOST_PORTS = 64
"""Ports of one range that are looked at."""


@dataclass(frozen=True, slots=True)
class Bind:
    """An IP literal and a port. `only6`: whether `::` means IPv6 alone; None: what the system says."""

    host: str
    port: int
    only6: bool | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def binds(document: Document) -> Mapping[str, tuple[Bind, ...]]:
    """The addresses by service; those of sections that belong to no service are under "".

    Left out is what only HAProxy can judge: names, sockets of the file system, other protocols, `interface`.
    Nothing is said of a document whose `global` has `noreuseport`: HAProxy's own sockets are in the way then.
    """
    if any(line.split()[:1] == ["noreuseport"] for one in document.head if one.title == "global" for line in one.lines):
        return {}
    around = [bind for section in (*document.head, *document.tail) for bind in _of_section(section)]
    found = {"": tuple(around)}
    for service, stanza in document.stanzas.items():
        found[service] = () if stanza.frontend is None else tuple(_of_section(stanza.frontend))
    return {service: each for service, each in found.items() if each}


def _of_section(section: Section) -> Iterator[Bind]:
    if section.title.split()[:1] in (["frontend"], ["listen"]):
        for line in section.lines:
            if line.split()[:1] == ["bind"]:
                yield from _of_line(line)


def _of_line(line: str) -> Iterator[Bind]:
    try:
        _, where, *options = split(line, comment=True)
    except ValueError:
        return
    if not _OTHER_WORLD.isdisjoint(options):
        return
    only6 = True if "v6only" in options else False if "v4v6" in options else None
    for one in where.split(","):
        host, colon, ports = one.rpartition(":")
        host = _literal(host)
        first, _, last = ports.partition("-")
        low, high = number_in(first), number_in(last or first)
        if colon and host and low is not None and high is not None and 0 < low <= high <= 65535:
            for port in range(low, min(high, low + _MOST_PORTS - 1) + 1):
                yield Bind(host, port, only6 if ":" in host else None)


def _literal(host: str) -> str:
    """The address that HAProxy takes the text for; "" where it is none."""
    host = host.removeprefix("ipv4@").removeprefix("ipv6@").removeprefix("[").removesuffix("]")
    if host in ("", "*"):
        return "0.0.0.0"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""
