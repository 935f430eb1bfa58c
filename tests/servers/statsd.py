"""A StatsD, as far as its socket: what it receives is kept."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self


class Receiver:
    """Listens on a free UDP port of 127.0.0.1 while the context is open."""

    def __init__(self) -> None:
        self.datagrams: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def lines(self) -> list[str]:
        """All lines until now, in order."""
        while True:
            try:
                self.datagrams.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return [line for datagram in self.datagrams for line in datagram.split("\n")]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
