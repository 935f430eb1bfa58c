"""Following a directory: what inotify misses is read, and what cannot be read is never empty."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncinotify
import pytest
import pytest_asyncio

from dockstack.errors import RegistryUnavailable
from dockstack.events import Event
from dockstack.model import Instance
from dockstack.registry import Locator, Registration, Registry
from dockstack.registry.codec import NerveDecoder, encode
from dockstack.registry.file import locks
from dockstack.registry.file import open as open_file
from dockstack.registry.file.directory import Directory, Place, Watches
from tests.registry.snapshots import ports, until_ports
from tests.waiting import eventually

NERVE = NerveDecoder()


def quiet(event: Event) -> None:
    pass


def registration(port: int = 80, key: str = "a") -> Registration:
    return Registration(key, "/p", Instance("10.0.0.1", port, "i"))


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that another user can reach, unlike pytest's own."""
    root = Path(tempfile.mkdtemp(prefix="dockstack-test-"))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root)


@pytest_asyncio.fixture
async def registry(root: Path) -> AsyncIterator[Registry]:
    """Reads everything often."""
    async with open_file(Locator("file", root=str(root / "registry")), quiet, reread=0.1) as registry:
        yield registry


@pytest_asyncio.fixture
async def listener(root: Path) -> AsyncIterator[Registry]:
    """Knows only what the kernel tells."""
    async with open_file(Locator("file", root=str(root / "registry")), quiet, reread=3600) as registry:
        yield registry


@pytest.fixture
def other_device() -> Iterator[Path]:
    """A directory on another file system."""
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.fail("the test needs /dev/shm as a second file system")
    directory = Path(tempfile.mkdtemp(prefix="dockstack-test-", dir="/dev/shm"))
    yield directory
    shutil.rmtree(directory)


@contextmanager
def out_of_reach(root: Path) -> Iterator[None]:
    """The registry's directory is not readable: root, whom permissions do not stop, is another user for the time."""
    (root / "registry").chmod(0)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)
        (root / "registry").chmod(0o755)


async def test_an_unreadable_directory_is_an_exception_and_what_is_held_stays_held(
    registry: Registry, root: Path
) -> None:
    lease = await registry.put(registration())
    snapshots = registry.watch("/p", NERVE)
    assert ports(await anext(snapshots)) == [80]
    with out_of_reach(root):
        with pytest.raises(RegistryUnavailable, match="Permission denied"):
            await anext(snapshots)
        with pytest.raises(RegistryUnavailable, match="Permission denied"):
            await anext(registry.watch("/p", NERVE))
        with pytest.raises(RegistryUnavailable, match="Permission denied"):
            await registry.put(registration(81))
        with pytest.raises(RegistryUnavailable, match="Permission denied"):
            await registry.remove(lease)
        assert "Permission denied" in registry.state
        assert registry.holds(lease)
    snapshots = registry.watch("/p", NERVE)
    assert ports(await anext(snapshots)) == [80]
    await eventually(lambda: registry.state.startswith("directory"), "readable again")


async def test_a_directory_that_may_be_listed_but_not_entered_is_not_empty(registry: Registry, root: Path) -> None:
    await registry.put(registration())
    directory = root / "registry" / "p"
    me = os.geteuid()
    snapshots = registry.watch("/p", NERVE)
    assert ports(await anext(snapshots)) == [80]
    directory.chmod(0o444)
    if me == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(RegistryUnavailable, match="Permission denied"):
            await anext(snapshots)
    finally:
        os.seteuid(me)
        directory.chmod(0o755)


async def test_a_directory_that_was_deleted_is_made_again(listener: Registry, root: Path) -> None:
    lease = await listener.put(registration())
    snapshots = listener.watch("/p", NERVE)
    assert ports(await anext(snapshots)) == [80]
    shutil.rmtree(root / "registry")
    async with asyncio.timeout(5):
        await listener.lost(lease)
    await listener.put(registration(81))
    await until_ports(snapshots, [81])
    await listener.put(registration(82))
    await until_ports(snapshots, [82])


async def test_a_directory_that_was_moved_away_is_not_followed_to_its_new_place(listener: Registry, root: Path) -> None:
    lease = await listener.put(registration())
    snapshots = listener.watch("/p", NERVE)
    await anext(snapshots)
    (root / "registry" / "p").rename(root / "elsewhere")
    async with asyncio.timeout(5):
        await listener.lost(lease)
    await until_ports(snapshots, [])
    await listener.put(registration(81))
    await until_ports(snapshots, [81])


async def test_a_directory_under_a_moved_one_is_watched_anew(root: Path) -> None:
    place = Place(root)
    with asyncinotify.Inotify() as inotify:
        watches = Watches(inotify, quiet)
        directory = Directory(root / "a" / "p", place, watches, 1.0)
        directory.prepare()
        assert watches.watch(directory)
        first = [watch.wd for watch in inotify.watches]
        assert watches.watch(directory)
        assert [watch.wd for watch in inotify.watches] == first
        (root / "a").rename(root / "b")
        directory.prepare()
        assert watches.watch(directory)
        assert inotify.watches[-1].wd not in first


async def test_a_free_lock_is_seen_although_the_close_was_reported_before_it(listener: Registry, root: Path) -> None:
    snapshots = listener.watch("/p", NERVE)
    await anext(snapshots)
    path = root / "registry" / "p" / "i_0000000000"
    held = locks.create(path.parent, ".tmp", path.name, encode(registration()))
    holder = os.open(path, os.O_RDONLY)
    held.close()
    fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(os.open(path, os.O_WRONLY))
    await until_ports(snapshots, [80])
    os.close(holder)  # a descriptor for reading: no event that is listened to
    await until_ports(snapshots, [], limit=5)


async def test_a_file_whose_root_is_gone_is_not_taken_for_deleted(
    listener: Registry, root: Path, other_device: Path
) -> None:
    lease = await listener.put(registration())
    snapshots = listener.watch("/p", NERVE)
    await anext(snapshots)
    (root / "registry").rename(root / "away")
    (root / "registry").symlink_to(other_device)
    (root / "away" / "p" / lease.node).unlink()
    with pytest.raises(RegistryUnavailable, match="another file system"):
        await anext(snapshots)
    assert listener.holds(lease)


@pytest.mark.parametrize("failure", ["no instance", "no watch"])
async def test_without_inotify_it_is_read_and_said_once(
    root: Path, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*arguments: object, **options: object) -> None:
        raise OSError(errno.EMFILE if failure == "no instance" else errno.ENOSPC, "none left")

    name = "__init__" if failure == "no instance" else "add_watch"
    monkeypatch.setattr(asyncinotify.Inotify, name, none_left)
    said: list[Event] = []
    async with open_file(Locator("file", root=str(root)), said.append, reread=0.05) as registry:
        lease = await registry.put(registration())
        snapshots = registry.watch("/p", NERVE)
        await until_ports(snapshots, [80])
        await anext(registry.watch("/q", NERVE))
        (root / "p" / lease.node).unlink()
        await until_ports(snapshots, [])
        assert not registry.holds(lease)
    assert len(said) == 1
    assert "inotify" in str(said[0])


def test_a_root_on_another_file_system_than_before_is_out_of_reach(tmp_path: Path, other_device: Path) -> None:
    here = tmp_path / "registry"
    place = Place(here)
    for _ in range(2):
        place.make(here / "p")
        shutil.rmtree(here)
    here.symlink_to(other_device)
    with pytest.raises(RegistryUnavailable, match="another file system"):
        place.make(here / "p")


async def test_a_burst_of_changes_ends_in_the_right_picture(registry: Registry) -> None:
    snapshots = registry.watch("/p", NERVE)
    await anext(snapshots)
    leases = [await registry.put(registration(1000 + n, str(n))) for n in range(300)]
    for lease in leases[::2]:
        await registry.remove(lease)
    for n in range(1, 300, 2):
        await registry.put(registration(2000 + n, str(n)))
    await until_ports(snapshots, [2000 + n for n in range(1, 300, 2)])
