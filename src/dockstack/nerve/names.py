"""Looks up the host names of all services' checks, in threads of its own.

The event loop's threads are few, and the system's lookup of a name may take longer than many checks: without this the
names of one service whose DNS is silent would hold up those of every other, `localhost` among them.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress

from dockstack.registry.url import is_name


class Names:
    """At most one lookup of each name is under way: a check that was given up leaves it to the next one."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[None]] = {}

    async def look_up(self, host: str) -> None:
        """Returns when the system has found an address, at once where the host is one; raises OSError."""
        if not is_name(host):
            return
        found = self._under_way.get(host)
        if found is None:
            found = self._begin(host)
        await asyncio.shield(found)

    def _begin(self, host: str) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[None] = loop.create_future()

        def settle(error: OSError | None) -> None:
            del self._under_way[host]
            if error is None:
                found.set_result(None)
            else:
                found.set_exception(error)
                found.exception()  # who asked may be gone

        def look() -> None:
            error = _failure(host)
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, error)

        try:
            threading.Thread(target=look, name=f"look up {host}", daemon=True).start()
        except RuntimeError as error:
            raise OSError(f"there is no thread left to look {host} up in") from error
        self._under_way[host] = found
        return found


def _failure(host: str) -> OSError | None:
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    except UnicodeError:
        return OSError(f"{host!r} is no host name")
    return None
