"""The picture of the world and the server ids on disk: with them synapse starts while the registry is down.

One file in the state directory, a line of JSON for each service, written behind every change: what has changed is
appended, and the last line about a service counts. A service comes back only where its discovery is the same: another
configuration with the same service name does not inherit foreign servers.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dockstack.errors import DockStackError
from dockstack.events import Emit
from dockstack.model import Entry, Instance
from dockstack.runtime.files import Trouble, write_atomically
from dockstack.runtime.loops import spaced, until_done
from dockstack.settings.synapse import SynapseService, SynapseSettings

FILE = "synapse-snapshot.jsonl"
VERSION = 2

SPACING = 1.0
"""Seconds between two writes: a burst of changes is one."""

LEAST = 65536
"""Bytes that may be appended before the file is written anew, however small it is."""

_FIELDS = tuple(one.name for one in fields(Instance))


Part = tuple[Entry, str]
"""What one watcher has found: its instances, and the configuration in the registry."""


class SnapshotUnreadable(DockStackError):
    """There is a file, and it is none of ours."""


@dataclass(frozen=True, slots=True)
class Saved:
    """One service as it was: the fingerprint of its discovery, its instances, the ids of its servers by name.

    `config` is the configuration that the registry had for it, as text. `watchers` has, where a service has several,
    the instances and the configuration of each by name. `known` is false where no watcher had ever answered: the
    instances are then the default servers, and only the ids are of use.
    """

    fingerprint: str
    entry: Entry
    ids: Mapping[str, int]
    config: str = ""
    watchers: Mapping[str, Part] = field(default_factory=dict)
    known: bool = True

    @property
    def parts(self) -> Mapping[str, Part]:
        """The instances and the configuration of each watcher that has answered; the only one has the name ""."""
        return self.watchers or ({"": (self.entry, self.config)} if self.known else {})


def fingerprint(service: SynapseService) -> str:
    """Equal for services that look for the same thing in the same place."""
    looks: Any = service.discovery.model_dump(mode="json")
    if service.discovery_multi is not None:
        looks = [looks, service.discovery_multi.model_dump(mode="json")]
    told = json.dumps(looks, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def fingerprints(settings: SynapseSettings) -> Mapping[str, str]:
    """The fingerprint of each service."""
    return {name: fingerprint(own) for name, own in settings.services.items()}


def encode_one(name: str, saved: Saved) -> str:
    """One service as a line of the file, without its end."""
    body: dict[str, Any] = {
        "fingerprint": saved.fingerprint,
        "instances": _plain(saved.entry),
        "ids": dict(saved.ids),
        "config": saved.config,
    }
    if not saved.known:
        body["known"] = False
    if saved.watchers:
        body["watchers"] = {
            watcher: {"instances": _plain(entry), "config": config}
            for watcher, (entry, config) in saved.watchers.items()
        }
    return json.dumps({"service": name, **body}, separators=(",", ":"))


def _plain(entry: Entry) -> list[dict[str, Any]]:
    return [
        {key: value for key in _FIELDS if (value := getattr(instance, key)) is not None} for instance in entry.instances
    ]


def encode(lines: Iterable[str]) -> bytes:
    """The whole file with these lines, as `encode_one` wrote them."""
    return "".join((f'{{"version":{VERSION}}}\n', *(f"{line}\n" for line in lines))).encode()


class SnapshotFile:
    """Keeps the file equal to what it is told, behind the changes. `fingerprints` by service."""

    def __init__(self, path: Path, fingerprints: Mapping[str, str], emit: Emit) -> None:
        self._path = path
        self._fingerprints = fingerprints
        self._emit = emit
        self._saved: dict[str, Saved] = {}
        self._lines: dict[str, str] = {}
        self._changed: set[str] = set()
        self._room = 0
        self._turn = threading.Lock()  # a write that was given up may still be at it in its thread
        self._news = asyncio.Event()
        self._trouble = Trouble(path)

    @property
    def trouble(self) -> tuple[str, ...]:
        """Why a restart would not know the newest, if the disk refuses it."""
        return (self._trouble.said,) if self._trouble.said else ()

    def remember(self, service: str, entry: Entry, ids: Mapping[str, int], parts: Mapping[str, Part]) -> None:
        """A service is like this now. No I/O here; the ids are read when the file is written.

        `parts` has the instances and the configuration of each watcher (see `Saved.parts`). A service that is not
        among the fingerprints any more is not kept.
        """
        mark = self._fingerprints.get(service)
        if mark is None:
            return
        several = {} if "" in parts else parts
        self._saved[service] = Saved(mark, entry, ids, parts.get("", (entry, ""))[1], several, bool(parts))
        self._changed.add(service)
        self._news.set()

    def change(self, fingerprints: Mapping[str, str]) -> None:
        """Other settings count from now on: a service that is gone is forgotten. No I/O here.

        One that looks for something else now is told of anew if that is another entry.
        """
        self._fingerprints = fingerprints
        kept = {name: one for name, one in self._saved.items() if name in fingerprints}
        self._saved = {name: replace(one, fingerprint=fingerprints[name]) for name, one in kept.items()}
        self._lines = {name: line for name, line in self._lines.items() if name in fingerprints}
        self._changed = set(self._saved)
        self._room = 0
        self._news.set()

    async def run(self) -> None:
        """Writes after each change, for ever; a disk that refuses is tried again."""
        async for _ in spaced(self._news, lambda: SPACING):
            await until_done(f"writing {self._path}", self._flush, (OSError,), self._emit, 10.0)

    async def _flush(self) -> None:
        with self._trouble.watched():
            await self.flush()

    async def flush(self) -> None:
        """Writes what has changed since the last write. Raises OSError."""
        changed, self._changed = self._changed, set()
        if not changed:
            return
        fresh = {service: encode_one(service, self._saved[service]) for service in changed}
        self._lines |= fresh
        added = "".join(f"{line}\n" for line in fresh.values()).encode()
        room, self._room = self._room, 0  # after a failure nobody knows what the file holds
        marks = self._fingerprints
        try:
            if len(added) < room and await asyncio.to_thread(_append, self._path, added):
                left = room - len(added)
            else:
                whole = encode(self._lines.values())
                await asyncio.to_thread(self._write, whole)
                left = max(len(whole), LEAST)
        except OSError:
            self._changed |= changed & self._saved.keys()
            raise
        if self._fingerprints is marks:  # else the file holds who is gone meanwhile: it is written anew
            self._room = left

    def _write(self, whole: bytes) -> None:
        with self._turn:
            write_atomically(self._path, whole, 0o600)


def _append(path: Path, data: bytes) -> bool:
    """False when there is no file any more. Raises OSError.

    The disk is not waited for: after a power failure the last lines may be missing, and nothing depends on them.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return False
    try:
        if os.write(handle, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(handle)
    return True


def load(path: Path) -> Mapping[str, Saved]:
    """What was saved, by service; nothing when there is no file. Raises SnapshotUnreadable with the reason."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SnapshotUnreadable(f"{path}: {error.strerror}") from None
    try:
        return decode(data)
    except (ValueError, RecursionError) as error:
        raise SnapshotUnreadable(f"{path}: {error}") from None


def decode(data: bytes) -> Mapping[str, Saved]:
    """The services in the file's bytes; the beginning of a line that was not written to its end is left out.

    Raises ValueError with the reason when they are not what we write.
    """
    first, *lines = data.split(b"\n")[:-1] or [data]
    head = json.loads(first)
    if not isinstance(head, dict) or head.get("version") != VERSION:
        raise ValueError(f"it is not a snapshot in version {VERSION}")
    newest: dict[str, Any] = {}
    for line in lines:
        body = json.loads(line)
        if not isinstance(body, dict) or not isinstance(body.get("service"), str):
            raise ValueError(f"no service: {line[:80]!r}")
        newest[body["service"]] = body
    return {name: _saved(name, body) for name, body in newest.items()}


def _saved(name: str, body: Any) -> Saved:
    try:
        ids = body["ids"]
        if not all(type(number) is int and number > 0 for number in ids.values()):
            raise ValueError("an id that is no number")
        watchers = {watcher: _part(one) for watcher, one in body.get("watchers", {}).items()}
        entry, config = _part(body)
        return Saved(str(body["fingerprint"]), entry, dict(ids), config, watchers, body.get("known", True) is True)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"service {name} is damaged: {error!r}") from None


def _part(body: Mapping[str, Any]) -> Part:
    return Entry(tuple(_instance(one) for one in body["instances"])), str(body["config"])


def _instance(one: Mapping[str, Any]) -> Instance:
    unknown = [key for key in one if key not in _FIELDS]
    if unknown or not isinstance(one["host"], str) or not isinstance(one["port"], int | str):
        raise ValueError(f"no instance: {str(one)[:80]}")
    return Instance(**one)
