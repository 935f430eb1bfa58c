"""The TLS settings of a registry as a context of the ssl module."""

from __future__ import annotations

import ssl

from dockstack.errors import ConfigurationError, Problem
from dockstack.registry import Tls


def context(tls: Tls, registry: str) -> ssl.SSLContext:
    """Raises ConfigurationError where a file cannot be used; `registry` is the name of what is on the other side."""
    try:
        made = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            # An empty password: an encrypted key is refused, instead of asking at a terminal that nobody watches.
            made.load_cert_chain(tls.cert_file, tls.key_file, password="")
    except OSError as error:
        raise ConfigurationError(Problem(f"TLS towards {registry}", f"a file cannot be used: {error}")) from None
    if not tls.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made
