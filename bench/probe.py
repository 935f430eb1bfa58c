"""A client that asks through HAProxy, each time on a new connection, for one server by its name.

The backends of the benchmarks have the line `WISH`: a request that names a server goes to it if it is in rotation, and
to any other if not. So the first request after a change sees it, and the probe is as fine as one request.
"""

from __future__ import annotations

import socket
import time

WISH = "use-server %[req.hdr(x-server)] if { req.hdr(x-server) -m found }"


class Unserved(Exception):
    """What was waited for did not happen in time."""


def answer(port: int, server: str = "", limit: float = 5.0) -> str:
    """The body of the answer to one request on a new connection. Raises OSError, also for another status than 200."""
    wish = f"X-Server: {server}\r\n" if server else ""
    with socket.create_connection(("127.0.0.1", port), limit) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: bench\r\n{wish}Connection: close\r\n\r\n".encode())
        reply = b""
        while block := connection.recv(4096):
            reply += block
    head, _, body = reply.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError(f"the answer is {head[:40]!r}")
    return body.decode()


class Probe:
    """Asks on `port`. `seconds` are the durations of all its requests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seconds: list[float] = []

    def ask(self, server: str) -> tuple[str, float]:
        """Who answered, and when."""
        begun = time.monotonic()
        name = answer(self.port, server)
        now = time.monotonic()
        self.seconds.append(now - begun)
        return name, now

    def first(self, server: str, name: str, limit: float = 10.0) -> float:
        """When the server answered for the first time; it answers with `name`. Raises Unserved."""
        end = time.monotonic() + limit
        while True:
            who, now = self.ask(server)
            if who == name:
                return now
            if now > end:
                raise Unserved(f"{server} was not served within {limit:.0f} s")

    def last(self, server: str, name: str, since: float, quiet: float = 0.03, limit: float = 10.0) -> float:
        """When the server answered for the last time (`since`, if it never did), asking until `quiet` seconds later."""
        last = since
        while True:
            who, now = self.ask(server)
            if who == name:
                last = now
            elif now - last > quiet:
                return last
            if now - since > limit:
                raise Unserved(f"{server} was still served after {limit:.0f} s")
