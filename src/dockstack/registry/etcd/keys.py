"""Keys and ranges as etcd's JSON gateway wants them, and the names of our keys. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from dockstack.registry import Registration
from dockstack.registry.codec import node_prefix
from dockstack.registry.url import fold


def quoted(data: str | bytes) -> str:
    """Bytes as the gateway writes them: base64."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def unquoted(text: str) -> bytes:
    """The bytes behind the gateway's base64; a field that is left out is empty."""
    return base64.b64decode(text)


def plain(text: str) -> str:
    """The key behind the gateway's base64; bytes that are no UTF-8 are escaped, so that two such keys stay two."""
    return unquoted(text).decode(errors="backslashreplace")


def directory(path: str) -> str:
    """What stands before the names of the members of a path: `/a/path/`."""
    return f"{fold(path).rstrip('/')}/"


def end_of(prefix: str) -> str:
    """The end of the range of all keys with this prefix, which ends with an ASCII character."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def within(prefix: str) -> Mapping[str, str]:
    """The fields `key` and `range_end` of the keys with this prefix."""
    return {"key": quoted(prefix), "range_end": quoted(end_of(prefix))}


def below(path: str) -> Mapping[str, str]:
    """The fields of a range with the path's own key and all of its members; others may lie in between."""
    inside = directory(path)
    own = inside.rstrip("/") or "/"
    return {"key": quoted(own), "range_end": quoted(end_of(inside))}


def name_of(registration: Registration, lease: int, number: int) -> str:
    """The node's name. Kinds that count have the lease and a number of this process where ZooKeeper counts."""
    prefix = node_prefix(registration)
    return f"{prefix}{lease:016x}_{number}" if registration.kind.sequential else prefix


def common(directories: frozenset[str]) -> str:
    """The longest directory that all of these lie in; `/` at least."""
    if not directories:
        return "/"
    first, *others = sorted(directories)
    parts = first.split("/")[1:-1]
    for other in others:
        theirs = other.split("/")[1:-1]
        same = 0
        while same < min(len(parts), len(theirs)) and parts[same] == theirs[same]:
            same += 1
        parts = parts[:same]
    return "/" + "".join(f"{part}/" for part in parts)


def number(fields: Mapping[str, Any], name: str) -> int:
    """An int64, which the gateway writes as text, and leaves out when it is zero."""
    return int(fields.get(name, 0))
