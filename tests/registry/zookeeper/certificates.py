"""A ZooKeeper that speaks TLS, with a certificate made for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import StartZooKeeper
from tests.servers.missing import missing
from tests.servers.ports import free_port
from tests.servers.zookeeper import classpath

_NETTY = "/usr/share/java/netty-codec.jar:/usr/share/java/netty-resolver.jar"
"""What Debian's zookeeper.jar needs for TLS and does not name in its own class path."""

_COMMAND = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
    *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
)


class SecureServer:
    """`port` speaks TLS alone; `ca_file` vouches for it."""

    def __init__(self, start_zookeeper: StartZooKeeper, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if shutil.which("openssl") is None:
            missing("openssl", "openssl")
        key, certificate, both = (directory / name for name in ("key.pem", "certificate.pem", "both.pem"))
        command = (*_COMMAND, "-keyout", str(key), "-out", str(certificate))
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        both.write_text(key.read_text() + certificate.read_text())
        if "ZOOKEEPER_CLASSPATH" not in os.environ:
            monkeypatch.setenv("ZOOKEEPER_CLASSPATH", f"{classpath()}:{_NETTY}")
        self.ca_file = str(certificate)
        self.port = free_port()
        start_zookeeper(
            settings={
                "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
                "secureClientPort": str(self.port),
                "secureClientPortAddress": "127.0.0.1",
                "ssl.clientAuth": "none",
                "ssl.keyStore.location": str(both),
                "ssl.keyStore.type": "PEM",
                "ssl.trustStore.location": str(certificate),
                "ssl.trustStore.type": "PEM",
            }
        )
