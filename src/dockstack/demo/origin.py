"""A small HTTP server that answers with its own name; `/health` answers OK.

python -m dockstack.demo.origin NAME PORT
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Origin(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    name = ""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Origin

    def do_GET(self) -> None:
        body = b"OK\n" if self.path == "/health" else f"{self.server.name}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    """Serves on 127.0.0.1 until it is killed."""
    name, port = sys.argv[1:]
    server = _Origin(("127.0.0.1", int(port)), _Answer)
    server.name = name
    server.serve_forever()


if __name__ == "__main__":
    main()
