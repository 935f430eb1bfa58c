"""A real MariaDB on a free loopback port, with its data in a directory of the test."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.missing import missing
from tests.servers.ports import accepts, free_port
from tests.servers.program import Program

PACKAGES = "mariadb-server-core mariadb-client-core"


def _tool(*names: str) -> str:
    for name in names:
        if path := shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin"):
            return path
    return missing("MariaDB", PACKAGES)


class MariaDBServer:
    """Stop, kill and restart keep the port and the data. All calls block: see `Program`.

    It runs as the user of the test. `root` has no password and comes in through the socket or from 127.0.0.1.
    """

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self.directory = directory
        self.port = free_port() if port is None else port
        # A Unix socket's path is limited to about 100 bytes, and pytest's directories are long.
        self.socket = Path("/tmp") / f"dockstack-mariadb-{self.port}.sock"
        self.client = _tool("mariadb", "mysql")
        self.program = Program(
            (
                _tool("mariadbd", "mysqld"),
                "--no-defaults",
                f"--datadir={directory / 'data'}",
                f"--user={getpass.getuser()}",
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                f"--socket={self.socket}",
                f"--pid-file={directory / 'mariadb.pid'}",
                "--skip-name-resolve",
                "--skip-log-bin",
                "--performance-schema=off",
                "--innodb-buffer-pool-size=16M",
                "--innodb-log-file-size=4M",
                "--innodb-flush-log-at-trx-commit=0",
            ),
            directory / "mariadb.log",
        )

    @property
    def pid(self) -> int:
        return self.program.pid

    @property
    def running(self) -> bool:
        return self.program.running

    def start(self) -> None:
        """Returns when the server accepts connections; makes the data directory the first time."""
        if not (self.directory / "data").exists():
            self._install()
        self.program.start(lambda: accepts(self.port))

    def stop(self) -> None:
        self.program.stop()
        self.socket.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL."""
        self.program.kill()
        self.socket.unlink(missing_ok=True)

    def restart(self) -> None:
        self.stop()
        self.start()

    def run(self, statements: str) -> str:
        """What the client prints for these statements, as root through the socket; raises CalledProcessError."""
        return subprocess.run(
            [self.client, "--no-defaults", f"--socket={self.socket}", "--user=root", "--batch", "--skip-column-names"],
            input=statements,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    def create_user(self, name: str, password: str = "") -> None:
        """A user without any right, from any host: what HAProxy's `option mysql-check user` and nerve's login want."""
        self.run(f"CREATE OR REPLACE USER '{name}'@'%' IDENTIFIED BY '{password}';")

    def _install(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            [
                _tool("mariadb-install-db", "mysql_install_db"),
                "--no-defaults",
                f"--datadir={self.directory / 'data'}",
                f"--user={getpass.getuser()}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
                "--innodb-log-file-size=4M",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"mariadb-install-db ended with status {made.returncode}:\n{made.stdout}{made.stderr}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
