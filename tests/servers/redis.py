"""A real Redis on a free loopback port, without persistence, with its files in a directory of the test."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.missing import missing
from tests.servers.ports import free_port
from tests.servers.program import Program

PACKAGES = "redis-server"


class RedisServer:
    """Stop, kill and restart keep the port. All calls block: see `Program`. `options` are words of its command line."""

    def __init__(self, directory: Path, *options: str, port: int | None = None) -> None:
        found = shutil.which("redis-server")
        if found is None:
            missing("Redis", PACKAGES)
        self.port = free_port() if port is None else port
        self.program = Program(
            (
                found,
                *("--port", str(self.port)),
                *("--bind", "127.0.0.1"),
                *("--dir", str(directory)),
                *("--save", ""),
                *("--appendonly", "no"),
                *("--repl-diskless-sync-delay", "0"),
                *options,
            ),
            directory / f"redis-{self.port}.log",
        )

    @property
    def running(self) -> bool:
        return self.program.running

    def ask(self, *words: str) -> str:
        """The beginning of the answer to one command, over a connection of its own; raises OSError."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            return connection.recv(65536).decode()

    def start(self) -> None:
        """Returns when the server answers."""
        self.program.start(self._answers)

    def stop(self) -> None:
        self.program.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.program.kill()

    def pause(self) -> None:
        """It accepts and never answers, until `resume`."""
        self.program.pause()

    def resume(self) -> None:
        self.program.resume()

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
