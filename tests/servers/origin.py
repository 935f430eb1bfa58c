"""The demo's HTTP server in a process of its own: it answers with its name, and `/health` answers OK."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.ports import accepts, free_port
from tests.servers.program import Program


class Origin:
    """Stop, kill and restart keep the port. All calls block: see `Program`."""

    def __init__(self, directory: Path, name: str, *, port: int | None = None) -> None:
        self.name = name
        self.port = free_port() if port is None else port
        self.program = Program(
            (sys.executable, "-m", "dockstack.demo.origin", name, str(self.port)),
            directory / f"origin-{name}-{self.port}.log",
        )

    @property
    def pid(self) -> int:
        return self.program.pid

    @property
    def running(self) -> bool:
        return self.program.running

    def start(self) -> None:
        """Returns when it accepts connections."""
        self.program.start(lambda: accepts(self.port))

    def stop(self) -> None:
        self.program.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.program.kill()

    def restart(self) -> None:
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
