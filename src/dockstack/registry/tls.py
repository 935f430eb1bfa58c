"""The TLS settings of a registry as a context of the ssl module."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from dockstack.errors import ConfigurationError, Problem
from dockstack.registry import Tls

T = TypeVar("T")


def context(tls: Tls, registry: str) -> ssl.SSLContext:
    """Raises ConfigurationError where a file cannot be used; `registry` is the name of what is on the other side."""
    try:
        return _context(tls)
    except ValueError as error:
        raise ConfigurationError(Problem(f"TLS towards {registry}", str(error))) from None


def fault(tls: Tls) -> str | None:
    """Why a file cannot be used, with the key that names it; None if all can."""
    if tls.ca_file is None and tls.cert_file is None:
        return None  # without the system's certificates, which take 20 ms to load
    try:
        _context(tls)
    except ValueError as error:
        return str(error)
    return None


def faults(found: Iterable[tuple[str, Tls]]) -> list[Problem]:
    """Where a file cannot be used, by the place of each of the settings; equal ones are looked at once."""
    said: dict[Tls, str | None] = {}
    problems = []
    for where, one in found:
        if one not in said:
            said[one] = fault(one)
        if (what := said[one]) is not None:
            problems.append(Problem(where, what))
    return problems


def _context(tls: Tls) -> ssl.SSLContext:
    made = _loaded("ca_file", tls.ca_file, lambda: ssl.create_default_context(cafile=tls.ca_file))
    if tls.cert_file is not None:
        files = tls.cert_file if tls.key_file is None else f"{tls.cert_file}, key_file: {tls.key_file}"
        # An empty password: an encrypted key is refused, instead of asking at a terminal that nobody watches.
        chain = partial(made.load_cert_chain, tls.cert_file, tls.key_file, password="")
        _loaded("cert_file", files, chain)
    if not tls.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def _loaded(key: str, files: str | None, load: Callable[[], T]) -> T:
    try:
        return load()
    except OSError as error:
        raise ValueError(f"{key}: {files} cannot be used: {error.strerror or error}") from None
