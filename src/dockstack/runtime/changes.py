"""Tells when settings files have other contents: inotify says when to look, and a slow look finds what it missed.

A file may be replaced in any way: written in place, renamed over, or reached through symbolic links of which one is
exchanged. So every step on the way to it is watched.
"""

from __future__ import annotations

import asyncio
import hashlib
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from dockstack.events import Emit, Warn

if TYPE_CHECKING:
    from asyncinotify import Inotify

SETTLED = 0.2
"""Seconds without a further event after which files are looked at: whoever writes them is done then, as a rule."""

LONGEST = 2.0
"""Seconds after the first event when they are looked at in any case."""

UNSEEN = 30.0
"""Seconds between two looks without any event: network file systems tell no events of other hosts."""

UNWATCHED = 5.0
"""Seconds between two looks where the kernel gives no inotify."""

_ENDINGS = (".json", ".yaml")
_MOST_LINKS = 40

Mark = tuple[tuple[str, str], ...]


class Settings(Protocol):
    """What both daemons' settings have."""

    @property
    def service_conf_dir(self) -> str | None:
        """A directory with a file for each service."""


S = TypeVar("S", bound=Settings)


class Sources(Generic[S]):
    """Where settings are read from: a file, and the `service_conf_dir` that the newest of them name."""

    def __init__(self, config: Path | None, directory: str | None, read: Callable[[], S]) -> None:
        self._config = config
        self._directory = directory
        self._read = read
        self._seen: Mark | None = None

    def read(self) -> S:
        """The settings as they are now. Blocks; raises what the reading raises."""
        self._seen = contents(self.files())
        fresh = self._read()
        self._directory = fresh.service_conf_dir
        return fresh

    def files(self) -> tuple[Path, ...]:
        """What is to be looked at; nothing where no file was given."""
        directory = None if self._directory is None else Path(self._directory)
        return tuple(path for path in (self._config, directory) if path is not None)

    def unread(self) -> bool:
        """Whether the files hold something else than when they were read last, also where that failed. Blocks."""
        return contents(self.files()) != self._seen


async def tell_changes(sources: Sources[S], changed: asyncio.Event, emit: Emit) -> None:
    """Sets `changed` after each change, for ever, unless somebody has had it read already; without any path, returns at
    once."""
    if not sources.files():
        return
    async for _ in changes(sources.files, emit):
        if await asyncio.to_thread(sources.unread):
            changed.set()


async def changes(paths: Callable[[], Iterable[Path]], emit: Emit) -> AsyncIterator[None]:
    """Yields after each change in the contents of the files, or of the settings files of a directory, for ever.

    `paths` is asked again for each look.
    """
    mark: Mark | None = None
    said = False
    while True:
        with _inotify() as inotify:
            wanted = tuple(paths())
            names = _watch(inotify, wanted) if inotify else {}
            if not names and not said:
                said = True
                emit(Warn(f"no inotify is left, so the settings are looked at every {UNWATCHED:g} s; raise its limits"))
            # What has happened until now shows here; what happens from now on wakes us.
            before = await asyncio.to_thread(contents, wanted)
            mark = before if mark is None else mark
            await _rest(inotify if names else None, names, before != mark)
        before, mark = mark, await asyncio.to_thread(contents, wanted)
        if before != mark:
            yield


def contents(paths: Iterable[Path]) -> Mark:
    """What the files hold, as digests by path; of a directory its `*.json` and `*.yaml`. A file that cannot be read is
    told from one that can; what is no plain file is not read. Blocks."""
    return tuple((str(file), _digest(file)) for path in paths for file in _files(path))


def _files(path: Path) -> tuple[Path, ...]:
    try:
        inside = sorted(path.iterdir())
    except OSError:
        return (path,)
    return tuple(file for file in inside if _is_settings(file.name))


def _is_settings(name: str) -> bool:
    return name.endswith(_ENDINGS) and not name.startswith(".")


def _digest(file: Path) -> str:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return "no file"
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        return error.strerror or "unreadable"


def names_on_the_way(path: Path) -> Iterator[tuple[Path, str]]:
    """Each directory that the way to `path` goes through, free of links, and the name in it that is followed."""
    way = list(reversed(path.absolute().parts[1:]))
    here, links = Path("/"), 0
    while way:
        name = way.pop()
        if name == "..":
            here = here.parent
            continue
        yield here, name
        step = here / name
        try:
            target = step.readlink()
        except OSError:
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            return
        here = Path("/") if target.is_absolute() else here
        way += reversed([part for part in target.parts if part != "/"])


@contextmanager
def _inotify() -> Iterator[Inotify | None]:
    from asyncinotify import Inotify

    try:
        inotify = Inotify(cache_size=16)
    except OSError:
        yield None
        return
    try:
        yield inotify
    finally:
        inotify.close()


def _watch(inotify: Inotify, paths: Iterable[Path]) -> Mapping[int, set[str]]:
    """By watch, the names that matter in a directory, `""` for all settings files; empty if not all can be had.

    What is there is watched itself, and not the directory that it is in: other files come and go beside it, our own
    among them, and each of them would wake us.
    """
    from asyncinotify import Mask

    itself = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.MASK_ADD
    # What is renamed over tells by ATTRIB: it has a link less.
    link, file = itself | Mask.ATTRIB | Mask.DONT_FOLLOW, itself | Mask.ATTRIB | Mask.CLOSE_WRITE
    coming = Mask.CREATE | Mask.MOVED_TO | Mask.MASK_ADD
    any_change = itself | Mask.CREATE | Mask.CLOSE_WRITE | Mask.MOVE | Mask.DELETE | Mask.ATTRIB
    names: dict[int, set[str]] = {}

    def watch(path: Path, mask: Mask, name: str | None = None) -> None:
        names.setdefault(inotify.add_watch(path, mask).wd, set()).update(() if name is None else (name,))

    for place, name in _steps(paths):
        step = place / name
        try:
            watch(step, link if step.is_symlink() else itself if step.is_dir() else file)
        except (FileNotFoundError, NotADirectoryError):
            with suppress(FileNotFoundError, NotADirectoryError):  # the way ends before: what comes there shows above
                watch(place, coming, name)
        except PermissionError:
            continue
        except OSError:
            return {}
    for path in paths:
        if path.is_dir():
            try:
                watch(path, any_change, "")
            except OSError:
                return {}
    return names


def _steps(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """All steps on the way to these files and directories, and to the settings files in the latter, each once."""
    ways = (way for path in paths for way in ([path] if not path.is_dir() else [path, *_files(path)]))
    return iter(dict.fromkeys(step for way in ways for step in names_on_the_way(way)))


async def _rest(inotify: Inotify | None, names: Mapping[int, set[str]], changed: bool) -> None:
    """Returns when the files may have changed, or have by now, and are at rest; or when it is time for a look."""
    if inotify is None:
        await asyncio.sleep(SETTLED if changed else UNWATCHED)
        return
    clock = asyncio.get_running_loop().time
    if not changed and not await _heard(inotify, names, clock() + UNSEEN):
        return
    end = clock() + LONGEST
    while clock() < end and await _heard(inotify, names, min(end, clock() + SETTLED)):
        pass


async def _heard(inotify: Inotify, names: Mapping[int, set[str]], end: float) -> bool:
    """Whether something happened to one of the names before the loop's time `end`."""
    try:
        async with asyncio.timeout_at(end):
            while True:
                event = await inotify.get()
                if event.watch is None or event.name is None:
                    return True  # the queue ran over, or the directory itself is another
                here, name = names.get(event.watch.wd, set()), str(event.name)
                if name in here or ("" in here and _is_settings(name)):
                    return True
    except TimeoutError:
        return False
