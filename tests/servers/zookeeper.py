"""A real ZooKeeper, alone, on a free loopback port, with its data in a directory of the test."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.missing import missing
from tests.servers.ports import free_port
from tests.servers.program import Program

PACKAGES = "libzookeeper-java default-jre-headless"
# What Debian's package installs; ZOOKEEPER_CLASSPATH names the jars of another installation (`/opt/zookeeper/lib/*`).
_DEBIAN_JARS = ("/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar")


def classpath() -> str:
    """Java's class path for ZooKeeper; ends the test when there is no ZooKeeper or no java."""
    given = os.environ.get("ZOOKEEPER_CLASSPATH")
    if shutil.which("java") is None or not (given or Path(_DEBIAN_JARS[0]).exists()):
        missing("ZooKeeper", PACKAGES)
    return given or ":".join(_DEBIAN_JARS)


class ZooKeeperServer:
    """Stop, kill and restart keep the port and the data. All calls block: see `Program`.

    `tick` is in milliseconds: sessions expire on the grid of a tick. `settings` are more lines of the configuration
    file (also `serverCnxnFactory`, `secureClientPort`, `ssl.…`), `properties` more system properties of the JVM.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        tick: int = 250,
        settings: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.port = free_port() if port is None else port
        self.tick = tick
        self._settings = {
            "dataDir": str(directory / "data"),
            "clientPort": str(self.port),
            "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false",
            "tickTime": str(tick),
            "minSessionTimeout": str(2 * tick),
            "maxSessionTimeout": "60000",
            "maxClientCnxns": "0",
            "4lw.commands.whitelist": "*",
            **(settings or {}),
        }
        given = {
            # No fsync: a test loses the machine's page cache never, and 20,000 nodes are written in seconds.
            "zookeeper.forceSync": "no",
            "zookeeper.jmx.log4j.disable": "true",
            "org.slf4j.simpleLogger.showDateTime": "true",
            **(properties or {}),
        }
        self.program = Program(
            (
                *("java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"),
                *(f"-D{name}={value}" for name, value in given.items()),
                *("-cp", classpath(), "org.apache.zookeeper.server.quorum.QuorumPeerMain"),
                str(directory / "zoo.cfg"),
            ),
            directory / "zookeeper.log",
        )

    @property
    def hosts(self) -> str:
        """`127.0.0.1:PORT`, as in a host list."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.program.pid

    @property
    def running(self) -> bool:
        return self.program.running

    def url(self, path: str = "") -> str:
        """`zk://127.0.0.1:PORT/path`."""
        return f"zk://{self.hosts}/{path.lstrip('/')}".rstrip("/")

    def ask(self, word: str, limit: float = 5.0) -> str:
        """The answer to a four-letter word (`srvr`, `cons`, `wchp`, `dump` …); raises OSError."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=limit) as connection:
            connection.sendall(word.encode())
            answer = b""
            while block := connection.recv(65536):
                answer += block
        return answer.decode(errors="replace")

    def start(self) -> None:
        """Returns when the server serves requests."""
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        lines = (f"{name}={value}\n" for name, value in self._settings.items())
        (self.directory / "zoo.cfg").write_text("".join(lines))
        self.program.start(self._serves)

    def stop(self) -> None:
        self.program.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.program.kill()

    def restart(self) -> None:
        """Down and up again: sessions and their ephemeral nodes live on if their time is not over."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """The kernel goes on to accept connections, nothing is answered, no session expires."""
        self.program.pause()

    def resume(self) -> None:
        self.program.resume()

    def _serves(self) -> bool:
        try:
            return "Mode: standalone" in self.ask("srvr", limit=1.0)
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
