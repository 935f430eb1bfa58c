"""TLS of the checks that have `tls`: one context for a check, made when it is built."""

from __future__ import annotations

import ssl

from dockstack.settings.common import TlsSettings

FAREWELL = 0.1
"""Seconds that an end of TLS may take: a server that is silent must not keep the connection for the usual 30."""


def context_of(tls: TlsSettings | None) -> ssl.SSLContext | None:
    """The context for these settings, None without TLS; raises OSError when a file cannot be used."""
    if tls is None:
        return None
    if tls.verify:
        context = ssl.create_default_context(cafile=tls.ca_file)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the system's certificates take 20 ms to load
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file is not None:
        # An empty password: an encrypted key is refused, instead of asking at a terminal that nobody watches.
        context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    return context
