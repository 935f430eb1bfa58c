"""A tiny HTTP server in a process of its own that answers with its name; `/health` answers OK.

python -m tests.servers.origin NAME PORT
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.ports import accepts, free_port
from tests.servers.program import Program

_ROOT = Path(__file__).resolve().parents[2]


class Origin:
    """Stop, kill and restart keep the port. All calls block: see `Program`."""

    def __init__(self, directory: Path, name: str, *, port: int | None = None) -> None:
        self.name = name
        self.port = free_port() if port is None else port
        self.program = Program(
            (sys.executable, "-m", "tests.servers.origin", name, str(self.port)),
            directory / f"origin-{name}-{self.port}.log",
            {"PYTHONPATH": str(_ROOT)},
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    answer = b""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        body = b"OK\n" if self.path == "/health" else self.server.answer
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: a load of thousands of requests would fill the log."""


def main() -> None:
    """Serves on 127.0.0.1 until it is ended."""
    name, port = sys.argv[1:]
    server = _Server(("127.0.0.1", int(port)), _Handler)
    server.answer = f"{name}\n".encode()
    server.serve_forever()


if __name__ == "__main__":
    main()
