"""Keeps the JSON files equal to the newest picture: written in one step, and only when they mean another thing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from dockstack.events import Emit, Note, Warn
from dockstack.model import Entry
from dockstack.runtime.files import write_atomically
from dockstack.runtime.latest import Latest
from dockstack.runtime.loops import until_done
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.files import manifest
from dockstack.synapse.files.content import content, same
from dockstack.synapse.haproxy.document import Picture

MODE = 0o644

LOOK = 30.0
"""Seconds between two looks at whether somebody else has changed a file."""

Remember = Callable[[str, SynapseService, Entry], None]
"""Told a service's settings and entry whenever its entry has changed."""


class Files:
    """Writes NAME.json below `directory`. `listing` is where the list of our files is kept."""

    def __init__(self, directory: Path, listing: Path, remember: Remember, emit: Emit) -> None:
        self._directory = directory.absolute()
        self._listing = listing
        self._remember = remember
        self._emit = emit
        self._ours: frozenset[Path] = frozenset()
        self._made: dict[str, tuple[SynapseService, Entry, bytes]] = {}
        self._written: dict[str, bytes] = {}
        self._complaint = ""
        self.ready = False

    @property
    def serving(self) -> bool:
        """Whether the files are as they are wanted, as far as is known."""
        return not self._complaint

    @property
    def trouble(self) -> tuple[str, ...]:
        """Why the files are not as they are wanted, in sentences."""
        if self._complaint:
            return (self._complaint,)
        return () if self.ready else (f"the files in {self._directory} are not written yet",)

    async def run(self, pictures: Latest[Picture]) -> None:
        """Writes what each newest picture wants, for ever; touches nothing before the first."""
        clock = asyncio.get_running_loop().time
        version, look_at = 0, 0.0
        self._ours = await self._listed()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(look_at if version else None):
                    version, _ = await pictures.after(version)
            if clock() >= look_at:
                self._written.clear()
                look_at = clock() + LOOK
            what = f"writing the files in {self._directory}"
            await until_done(what, lambda: self._apply(pictures), (OSError,), self._emit, 10.0)
            if not self.ready:
                self.ready = True
                self._emit(Note(f"the files in {self._directory} are written"))

    async def close(self) -> None:
        """Nothing: the files stay."""

    async def _listed(self) -> frozenset[Path]:
        try:
            return await asyncio.to_thread(manifest.load, self._listing)
        except manifest.ManifestUnreadable as error:
            self._emit(Warn(f"which files in {self._directory} are ours is not known, so none is removed: {error}"))
            return frozenset()

    async def _apply(self, pictures: Latest[Picture]) -> None:
        picture = pictures.peek()
        assert picture is not None
        wanted = {name: own for name, own in picture.services.items() if not own.file_output.disabled}
        for gone in self._made.keys() - wanted.keys():
            del self._made[gone]
            self._written.pop(gone, None)
        changed = {}
        for name, own in wanted.items():
            entry = picture.catalog.entries.get(name)
            if entry is None:  # nothing is known: a file of the last run stays
                continue
            made = self._made.get(name)
            if made is None or made[0] is not own or made[1] is not entry:
                made = self._made[name] = own, entry, content(own, entry)
                self._remember(name, own, entry)
            if self._written.get(name) != made[2]:
                changed[name] = made[2]
        keep = frozenset(map(self._path, wanted))
        if changed or self._ours - keep:
            try:
                await asyncio.to_thread(self._bring, changed, keep)
            except OSError as error:
                self._complaint = f"the files in {self._directory} are not what they should be: {error}"
                raise
        self._complaint = ""
        self._written |= changed

    def _path(self, service: str) -> Path:
        return self._directory / f"{service}.json"

    def _bring(self, changed: Mapping[str, bytes], keep: frozenset[Path]) -> None:
        """Writes what has changed, and removes those files of ours that are not kept. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._list(self._ours | {self._path(name) for name in changed})
        for name, data in changed.items():
            path = self._path(name)
            if not same(_read(path), data):
                write_atomically(path, data, MODE)
        for path in self._ours - keep:
            path.unlink(missing_ok=True)
        self._list(self._ours & keep)

    def _list(self, files: frozenset[Path]) -> None:
        if files != self._ours:
            manifest.save(self._listing, files)
            self._ours = files


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
