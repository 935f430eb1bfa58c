"""ZooKeeper's protocol as aiozk has it, and the few things that it lacks: framing, error numbers, `addWatch`. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from aiozk import exc
from aiozk.protocol.connect import ConnectResponse
from aiozk.protocol.primitives import Int, UString
from aiozk.protocol.request import Request
from aiozk.protocol.response import response_xref
from aiozk.protocol.watches import RemoveWatchesRequest, WatchEvent

MAX_FRAME = 64 * 1024 * 1024
"""Bytes: more than any child list that a server's jute.maxbuffer lets through."""

WATCH_XID, PING_XID, AUTH_XID = -1, -2, -4

_SIZE = struct.Struct("!i")
_HEADER = struct.Struct("!iqi")


class AddWatchRequest(Request):  # type: ignore[misc]
    """Opcode 106, ZooKeeper 3.6 and later: mode 1 is a watch that stays and covers everything below the path."""

    opcode = 106
    parts = (("path", UString), ("mode", Int))


_RECURSIVE = 1
_ANY_KIND = 3


def watch_below(path: str) -> Request:
    """Asks for the events of the path and of everything below it, until the connection ends or `unwatch`."""
    return AddWatchRequest(path=path, mode=_RECURSIVE)


def unwatch(path: str) -> Request:
    """Ends all watches of this connection on the path itself."""
    return RemoveWatchesRequest(path=path, type=_ANY_KIND)


_ADVICE = {
    exc.NoAuth.error_code: "the ACL does not let this user; give USER:PASSWORD@ in the URL, zk_auth or auth "
    "in a file, or change the ACL",
    exc.NoChildrenForEphemerals.error_code: "a part of the path is an ephemeral node; choose another path",
    exc.NotEmpty.error_code: "there are nodes below it; delete them",
    -125: "the path's quota is exceeded; raise it",
}


class ServerRefused(exc.ResponseError):  # type: ignore[misc]
    """An error number that aiozk has no class for, such as an exceeded quota (-125)."""

    def __init__(self, number: int) -> None:
        self.error_code = number

    def __str__(self) -> str:
        return f"error {self.error_code}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A frame from the server: which request it answers, the transaction it is as new as, and what it says."""

    xid: int
    zxid: int
    error: int
    payload: bytes


class Frames:
    """Cuts the byte stream into frames, however it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now. Raises ValueError on a size that no ZooKeeper sends."""
        self._buffer += data
        whole, at = [], 0
        while len(self._buffer) - at >= _SIZE.size:
            (size,) = _SIZE.unpack_from(self._buffer, at)
            if not 0 <= size <= MAX_FRAME:
                raise ValueError(f"a frame of {size} bytes was announced: this is no ZooKeeper")
            end = at + _SIZE.size + size
            if len(self._buffer) < end:
                break
            whole.append(bytes(self._buffer[at + _SIZE.size : end]))
            at = end
        if at:
            del self._buffer[:at]
        return whole


def frame(body: bytes) -> bytes:
    """The body behind its size, as both sides send it."""
    return _SIZE.pack(len(body)) + body


def reply(body: bytes) -> Reply:
    """Takes the header off a frame. Raises ValueError when it is too short for one."""
    if len(body) < _HEADER.size:
        raise ValueError(f"a reply of {len(body)} bytes is shorter than its header")
    xid, zxid, error = _HEADER.unpack_from(body)
    return Reply(xid, zxid, error, body[_HEADER.size :])


def response(opcode: int, payload: bytes) -> Any:
    """aiozk's response object for this request's opcode; None where the answer is the header alone.

    Raises ValueError where the payload is no such response.
    """
    known = response_xref.get(opcode)
    try:
        return None if known is None else known.deserialize(payload)
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise ValueError(f"the answer to opcode {opcode} cannot be read: {error}") from None


def event(payload: bytes) -> WatchEvent:
    """A watch's event. Raises ValueError."""
    try:
        told = WatchEvent.deserialize(payload)
    except struct.error as error:
        raise ValueError(f"a watch event cannot be read: {error}") from None
    if told.path is None:
        raise ValueError("a watch event has no path")
    return told


def welcome(body: bytes) -> ConnectResponse:
    """The server's word on the session: id 0 means that it has expired. Raises ValueError."""
    try:
        return ConnectResponse.deserialize(body)
    except struct.error as error:
        raise ValueError(f"no answer to a ZooKeeper handshake: {error}") from None


def failure(number: int) -> exc.ResponseError:
    """The exception for an error number of the server."""
    known = exc.response_error_xref.get(number)
    return ServerRefused(number) if known is None else known()


def words(error: exc.ResponseError) -> str:
    """What the server refused a request for, and what to do about it where that is known."""
    advice = _ADVICE.get(error.error_code)
    return f"{error}: {advice}" if advice else str(error)
