"""What the files are to hold, and which files there are to be. Pure."""

from __future__ import annotations

import json

from dockstack.model import Entry
from dockstack.registry.codec import compact
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.fields import described


def content(own: SynapseService, entry: Entry) -> bytes:
    """A service's file: its instances as compact JSON, without a line break at the end."""
    return compact(described(own, entry.instances)).encode()


def same(one: bytes | None, other: bytes) -> bool:
    """Whether two files mean the same; what is no JSON is the same as nothing else."""
    if one is None or one == other:
        return one is not None
    try:
        return _typed(json.loads(one)) == _typed(json.loads(other))
    except (ValueError, RecursionError):
        return False


def _typed(value: object) -> object:
    """The value so that 1, 1.0 and true are three things, and the order of a map's keys is none."""
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    return [_typed(inner) for inner in value] if isinstance(value, list) else (type(value), value)
