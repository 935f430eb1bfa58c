"""What is known of a path: its own data, and its nodes by name. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dockstack.model import Instance
from dockstack.registry import Decoder, Snapshot
from dockstack.registry.etcd.answers import ranges
from dockstack.registry.etcd.keys import directory, number, plain, quoted, unquoted, within

Stamp = tuple[int, int, int]
"""How many keys lie below the path, the newest revision of one of them, and that of the path's own key."""


@dataclass(frozen=True, slots=True)
class _Node:
    data: bytes
    created: int
    found: Instance | str


class Members:
    """One path, as far as it was read and heard of."""

    def __init__(self, path: str, decoder: Decoder) -> None:
        self._inside = directory(path)
        self._own = self._inside.rstrip("/") or "/"
        self._decoder = decoder
        self._nodes: dict[str, _Node] = {}
        self._revisions: dict[str, int] = {}  # of all keys below the path, the deeper ones too
        self._data = b""
        self._own_revision = 0

    def everything(self) -> tuple[Mapping[str, Any], ...]:
        """The ranges that `read` wants the answers to."""
        return {"key": quoted(self._own)}, within(self._inside)

    def read(self, answer: Mapping[str, Any]) -> None:
        """Takes the answer to `everything`: all that there is now. Raises RegistryUnavailable for a part of it."""
        own, inside = (one.get("kvs", ()) for one in ranges(answer, 2))
        self._data, self._own_revision = b"", 0
        for fields in own:
            self._data, self._own_revision = unquoted(fields.get("value", "")), number(fields, "mod_revision")
        before, self._nodes, self._revisions = self._nodes, {}, {}
        for fields in inside:
            self._take(_key(fields), fields, before)

    def happened(self, event: Mapping[str, Any]) -> bool:
        """Takes one event of the watch; whether it is one of this path's."""
        fields = event.get("kv", {})
        key = _key(fields)
        gone = event.get("type") == "DELETE"
        if key == self._own:
            self._data = b"" if gone else unquoted(fields.get("value", ""))
            self._own_revision = 0 if gone else number(fields, "mod_revision")
            if not key.startswith(self._inside):  # the root's own key lies in its range
                return True
        if not key.startswith(self._inside):
            return False
        if gone:
            self._revisions.pop(key, None)
            return self._nodes.pop(key.removeprefix(self._inside), None) is not None or key == self._own
        return self._take(key, fields, self._nodes) or key == self._own

    def snapshot(self) -> Snapshot:
        """As it is now, by name; a bad node is named in the problems."""
        found = [self._nodes[name].found for name in sorted(self._nodes)]
        return Snapshot(
            instances=tuple(one for one in found if isinstance(one, Instance)),
            data=self._data,
            problems=tuple(one for one in found if isinstance(one, str)),
        )

    @property
    def stamp(self) -> Stamp:
        """What tells this state from another one."""
        return len(self._revisions), max(self._revisions.values(), default=0), self._own_revision

    def stamp_questions(self) -> tuple[Mapping[str, Any], ...]:
        """The ranges that `stamp_of` wants the answers to: little, however many members there are."""
        newest = {"limit": 1, "sort_target": "MOD", "sort_order": "DESCEND", "keys_only": True}
        return {**within(self._inside), **newest}, {"key": quoted(self._own), "keys_only": True}

    @staticmethod
    def stamp_of(answers: Sequence[Mapping[str, Any]]) -> Stamp:
        """The stamp of what etcd has."""
        inside, own = answers
        newest = [number(fields, "mod_revision") for fields in inside.get("kvs", ())]
        mine = [number(fields, "mod_revision") for fields in own.get("kvs", ())]
        return number(inside, "count"), max(newest, default=0), max(mine, default=0)

    def _take(self, key: str, fields: Mapping[str, Any], before: Mapping[str, _Node]) -> bool:
        name = key.removeprefix(self._inside)
        self._revisions[key] = number(fields, "mod_revision")
        if not name or "/" in name:
            return False
        data, created = unquoted(fields.get("value", "")), number(fields, "create_revision")
        known = before.get(name)
        if known is None or (known.data, known.created) != (data, created):
            known = _Node(data, created, self._decoded(name, data, created))
        self._nodes[name] = known
        return True

    def _decoded(self, name: str, data: bytes, created: int) -> Instance | str:
        try:
            return replace(self._decoder.from_name(name) or self._decoder.from_data(name, data), id=created)
        except ValueError as error:
            return f"{self._inside}{name}: {error}"


def _key(fields: Mapping[str, Any]) -> str:
    return plain(fields.get("key", ""))
