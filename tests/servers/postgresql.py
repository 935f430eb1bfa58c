"""A real PostgreSQL on a free loopback port. It refuses to run as root: there it runs as another user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.certificate import Certificate
from tests.servers.missing import missing
from tests.servers.ports import accepts, free_port
from tests.servers.program import Program

PACKAGES = "postgresql"
SUPERUSER, PASSWORD = "admin", "s3cret"


def _tool(name: str) -> str:
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda file: float(file.parts[-3]), reverse=True
    )
    if path := shutil.which(name) or (str(found[0]) if found else None):
        return path
    return missing("PostgreSQL", PACKAGES)


class PostgresqlServer:
    """Stop, kill and restart keep the port and the data. All calls block: see `Program`.

    The user `admin` has the password `s3cret`. `hba` are the lines that say who may come in, by default all from
    127.0.0.1 with a password; `options` are settings, as `max_connections=5`.
    """

    def __init__(
        self, directory: Path, *options: str, hba: tuple[str, ...] = (), tls: Certificate | None = None
    ) -> None:
        self.port = free_port()
        self._as = self._user()
        # The directories of pytest are closed to other users.
        self._data = Path(tempfile.mkdtemp(prefix="dockstack-postgresql-"))
        if self._as is not None:
            os.chown(self._data, self._as.pw_uid, self._as.pw_gid)
        self._hba = hba or ("host all all 127.0.0.1/32 scram-sha-256",)
        self._tls = tls
        settings = (
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=1MB",
            "max_connections=10",
            "superuser_reserved_connections=0",
            "max_wal_senders=0",
            "wal_level=minimal",
            "fsync=off",
            *(("ssl=on",) if tls else ()),
            *options,
        )
        command = (_tool("postgres"), "-D", str(self._data), *(word for one in settings for word in ("-c", one)))
        self.program = Program(self._as_user(command), directory / f"postgresql-{self.port}.log")

    @property
    def running(self) -> bool:
        return self.program.running

    @property
    def log(self) -> list[str]:
        """The lines of its log so far."""
        return self.program.output().splitlines()

    def start(self) -> None:
        """Returns when the server lets its superuser in; makes the data directory the first time."""
        if not (self._data / "PG_VERSION").exists():
            self._install()
        self.program.start(self._answers)

    def run(self, statement: str) -> str:
        """What the statement gives, as the superuser; raises CalledProcessError."""
        return self._psql(statement, check=True).stdout.strip()

    def stop(self) -> None:
        """A fast shutdown: whoever is connected is thrown out."""
        if self.program.running:
            self.program.signal(signal.SIGINT)
            try:
                self.program.wait(20)
            except subprocess.TimeoutExpired:
                self.program.kill()
        self.program.stop()

    def kill(self) -> None:
        """SIGKILL to the postmaster; its children see that and end."""
        self.program.kill()

    def _answers(self) -> bool:
        return accepts(self.port) and self._psql("SELECT 1").returncode == 0

    def _psql(self, statement: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        where = ("-h127.0.0.1", f"-p{self.port}", f"-U{SUPERUSER}", "-dpostgres")
        return subprocess.run(
            [_tool("psql"), *where, "--no-psqlrc", "--no-password", "-qAtc", statement],
            env={"PGPASSWORD": PASSWORD, "PGCONNECT_TIMEOUT": "5", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=120,
            check=check,
        )

    def _install(self) -> None:
        password = self._data.with_suffix(".password")
        password.write_text(PASSWORD + "\n")
        password.chmod(0o644)  # of a server that lives as long as the test
        command = (_tool("initdb"), "-D", str(self._data), "-U", SUPERUSER, "--pwfile", str(password))
        options = ("--no-sync", "--no-locale", "--encoding=UTF8", "--auth=scram-sha-256")
        made = subprocess.run(
            self._as_user((*command, *options)), capture_output=True, text=True, timeout=120, check=False, cwd="/"
        )
        password.unlink()
        if made.returncode:
            raise RuntimeError(f"initdb ended with status {made.returncode}:\n{made.stdout}{made.stderr}")
        (self._data / "pg_hba.conf").write_text("".join(f"{line}\n" for line in self._hba))
        for name, file in (("server.crt", self._tls.file), ("server.key", self._tls.key)) if self._tls else ():
            copy = Path(shutil.copyfile(file, self._data / name))
            copy.chmod(0o600)
            if self._as is not None:
                os.chown(copy, self._as.pw_uid, self._as.pw_gid)

    @staticmethod
    def _user() -> pwd.struct_passwd | None:
        """Whom root hands the server to: Debian's user for it, or nobody."""
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam("postgres")
        except KeyError:
            return pwd.getpwnam("nobody")

    def _as_user(self, command: tuple[str, ...]) -> tuple[str, ...]:
        if self._as is None:
            return command
        return ("setpriv", f"--reuid={self._as.pw_uid}", f"--regid={self._as.pw_gid}", "--clear-groups", *command)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
