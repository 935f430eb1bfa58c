"""TCP services that accept and close, many in one thread; each can be killed and comes back on its port."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

from tests.servers.ports import free_ports


class Listeners:
    """They are numbered from 0; `asked` is when each was connected to last, in monotonic seconds. A kill closes the
    listening socket: from then on a connection is refused."""

    def __init__(self, count: int) -> None:
        self.ports = free_ports(count)
        self.asked = [0.0] * count
        self._poll = select.epoll()
        self._sockets: dict[int, tuple[int, socket.socket]] = {}
        self._handles: dict[int, int] = {}
        self._over = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        for number in range(count):
            self.open(number)
        self._thread.start()

    def open(self, number: int) -> None:
        """Listens, again or for the first time."""
        listener = socket.create_server(("127.0.0.1", self.ports[number]), backlog=64)
        listener.setblocking(False)
        self._sockets[listener.fileno()] = (number, listener)
        self._handles[number] = listener.fileno()
        self._poll.register(listener, select.EPOLLIN)

    def kill(self, number: int) -> float:
        """The moment (monotonic seconds) from which on nobody listens."""
        self._sockets.pop(self._handles.pop(number))[1].close()
        return time.monotonic()

    def close(self) -> None:
        """Ends all."""
        self._over = True
        self._thread.join()
        for _, listener in self._sockets.values():
            listener.close()
        self._poll.close()

    def _accept(self) -> None:
        while not self._over:
            for handle, _ in self._poll.poll(0.2):
                if (known := self._sockets.get(handle)) is not None:
                    number, listener = known
                    self.asked[number] = time.monotonic()
                    with contextlib.suppress(OSError):  # killed at this very moment
                        listener.accept()[0].close()


@contextlib.contextmanager
def listeners(count: int) -> Iterator[Listeners]:
    """That many, until the block ends."""
    made = Listeners(count)
    try:
        yield made
    finally:
        made.close()
