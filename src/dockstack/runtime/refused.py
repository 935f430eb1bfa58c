"""Why a connection was not made, in the words of the system and without an address that is told beside them."""

from __future__ import annotations

import os


def reason(error: OSError) -> str:
    """The system's words, also behind what a library makes of them. asyncio and aiohttp put the address, and more, in
    their place."""
    inner = getattr(error, "os_error", None)
    if isinstance(inner, OSError):
        return reason(inner)
    theirs = str(error.strerror or "").startswith("Connect call failed")
    if error.errno and error.errno > 0 and (theirs or isinstance(error, ConnectionError)):
        return os.strerror(error.errno)
    if error.strerror and error.filename is None:
        return error.strerror
    return str(error) or type(error).__name__
