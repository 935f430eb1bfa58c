"""Answers `GET /health` and `GET /ready` on a Unix socket, in the least HTTP that curl and a probe understand.

The answers are at hand, so a connection needs no task: the request's last bytes cause the answer and the close.
"""

from __future__ import annotations

import asyncio
import socket as socket_module
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from dockstack.admin.report import Report
from dockstack.errors import DockStackError

_PATIENCE = 5.0  # seconds that a client has to finish its request
_LIMIT = 8192  # bytes of a request
_MODE = 0o660


@asynccontextmanager
async def serve(socket: Path, health: Callable[[], Report], ready: Callable[[], Report]) -> AsyncIterator[None]:
    """Answers on the socket while the context is open; a socket file left behind by a killed process is replaced.

    200 when the report is well, 503 when it is not; the body is the report's lines. Raises DockStackError when the
    socket cannot be made.
    """
    pages = {"/health": health, "/ready": ready}
    connections: set[asyncio.Transport] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: _Connection(pages, connections), sock=_bound(socket))
    try:
        yield
    finally:
        server.close()
        for transport in tuple(connections):
            transport.abort()
        _remove(socket)


def _bound(path: Path) -> socket_module.socket:
    listener = socket_module.socket(socket_module.AF_UNIX, socket_module.SOCK_STREAM)
    try:
        _remove(path)
        listener.bind(str(path))
        path.chmod(_MODE)
    except OSError as error:
        listener.close()
        raise DockStackError(
            f"{path} cannot be made: {error.strerror}; mend that, or choose another directory with --run-dir"
        ) from error
    return listener


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


class _Connection(asyncio.Protocol):
    def __init__(self, pages: Mapping[str, Callable[[], Report]], open_connections: set[asyncio.Transport]) -> None:
        self._pages = pages
        self._open = open_connections
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self._transport)
        self._alarm = asyncio.get_running_loop().call_later(_PATIENCE, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._request += data
        if b"\r\n\r\n" in self._request or len(self._request) > _LIMIT:
            self._transport.write(respond(self._request, self._pages))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._alarm.cancel()
        self._open.discard(self._transport)


def respond(request: bytes, pages: Mapping[str, Callable[[], Report]]) -> bytes:
    """The whole answer to a request's head."""
    match request.split(b"\r\n", 1)[0].split():
        case [b"GET" | b"HEAD", target, _] if page := pages.get(target.decode("latin-1").partition("?")[0]):
            report = page()
            status = "200 OK" if report.ok else "503 Service Unavailable"
            lines = report.lines
        case [b"GET" | b"HEAD", _, _]:
            status, lines = "404 Not Found", (f"there are: {' '.join(pages)}",)
        case _:
            status, lines = "400 Bad Request", ("this is no HTTP request that is answered here",)
    body = "".join(f"{line}\n" for line in lines).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + (b"" if request.startswith(b"HEAD") else body)
