"""A certificate for 127.0.0.1 and localhost that vouches for itself, made for the test."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers.missing import missing

_COMMAND = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
    *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files; `file` is also what vouches for it."""

    file: Path
    key: Path


def certificate(directory: Path) -> Certificate:
    """Makes one; ends the test when there is no openssl."""
    if shutil.which("openssl") is None:
        missing("openssl", "openssl")
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    command = (*_COMMAND, "-keyout", str(made.key), "-out", str(made.file))
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return made
