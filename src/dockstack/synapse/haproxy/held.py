"""Tries whether addresses can be had, as HAProxy would: one that somebody else holds is known before it is loaded.

A reload that meets such an address has the serving worker refuse every connection for two seconds, and then fails
(measured on 2.6 to 3.2).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping

from dockstack.synapse.haproxy.binds import Bind

_WORDS = {
    errno.EADDRINUSE: "another program holds it",
    errno.EADDRNOTAVAIL: "this host has no such address",
}


def obstacles(asked: Mapping[str, Iterable[Bind]]) -> Mapping[str, str]:
    """Of these addresses by service, the services that cannot have all of theirs, and why. Does not block for long."""
    found = {name: _obstacle(binds) for name, binds in asked.items()}
    return {name: words for name, words in found.items() if words is not None}


def _obstacle(binds: Iterable[Bind]) -> str | None:
    """The first of these addresses that cannot be had, and why; None: all are free, or HAProxy's own.

    What HAProxy may be allowed and we are not (a port below 1024, say) is no obstacle.
    """
    for bind in binds:
        family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if bind.only6 is not None:
                    tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bind.only6)
                tried.bind((bind.host, bind.port))
        except OSError as error:
            if error.errno in _WORDS:
                return f"{bind} cannot be listened on: {_WORDS[error.errno]}"
    return None
