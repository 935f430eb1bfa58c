"""What is the file registry's own, beyond the contract that every registry passes: names, locks, dead owners' files."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dockstack.errors import RegistryUnavailable
from dockstack.events import Event
from dockstack.model import Instance
from dockstack.registry import Locator, NodeKind, Registration, Registry, open_registry
from dockstack.registry.codec import NerveDecoder, encode
from dockstack.registry.file import locks
from tests.registry.file.owner import Owner
from tests.registry.snapshots import ports, until, until_ports

NERVE = NerveDecoder()


def quiet(event: Event) -> None:
    pass


def registration(
    port: int = 80, name: str = "i", key: str = "a", kind: NodeKind = NodeKind.EPHEMERAL_SEQUENTIAL
) -> Registration:
    return Registration(key, "/p/q", Instance("10.0.0.1", port, name), kind)


def live(directory: Path) -> set[str]:
    return {name for name in os.listdir(directory) if not name.startswith(".") and not locks.is_dead(directory / name)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "registry"


@pytest_asyncio.fixture
async def registry(root: Path) -> AsyncIterator[Registry]:
    async with open_registry(Locator("file", root=str(root)), quiet) as registry:
        yield registry


async def test_a_registration_is_a_json_file_in_the_paths_directory(registry: Registry, root: Path) -> None:
    lease = await registry.put(registration())
    assert lease.node == "i_0000000000"
    assert (root / "p" / "q" / lease.node).read_bytes() == encode(registration())
    assert sorted(os.listdir(root / "p" / "q")) == [".registry", "i_0000000000"]
    assert registry.state == f"directory {root}"


@pytest.mark.parametrize(
    ("kind", "node"),
    [
        (NodeKind.EPHEMERAL_SEQUENTIAL, "i_0000000000"),
        (NodeKind.PERSISTENT_SEQUENTIAL, "i_0000000000"),
        (NodeKind.EPHEMERAL, "i_"),
        (NodeKind.PERSISTENT, "i_"),
    ],
)
async def test_the_kind_decides_about_the_name(registry: Registry, kind: NodeKind, node: str) -> None:
    assert (await registry.put(registration(kind=kind))).node == node


async def test_an_encoded_name_is_used_where_it_fits_a_file_name(registry: Registry) -> None:
    short = Registration("a", "/p", Instance("h", 1, "i"), path_encoding=True)
    assert NERVE.from_name((await registry.put(short)).node) == Instance("h", 1, "i", 0)
    long = Registration("b", "/p", Instance("h", 1, "i", haproxy_server_options="x" * 200), path_encoding=True)
    assert (await registry.put(long)).node == "i_0000000001"


async def test_numbers_go_on_when_the_counter_is_lost(registry: Registry, root: Path) -> None:
    directory = root / "p" / "q"
    assert (await registry.put(registration(key="a"))).node == "i_0000000000"
    assert (await registry.put(registration(key="b"))).node == "i_0000000001"
    (directory / ".registry").unlink()
    assert (await registry.put(registration(key="c"))).node == "i_0000000002"
    (directory / ".registry").write_text("1")
    assert (await registry.put(registration(key="d"))).node == "i_0000000003"


@pytest.mark.parametrize(("path", "name"), [("/../x", "i"), ("/a/.b", "i"), ("/./x", "i"), ("/x", ".i")])
async def test_hidden_names_and_ways_out_of_the_root_are_refused(registry: Registry, path: str, name: str) -> None:
    with pytest.raises(RegistryUnavailable, match="begins with a dot"):
        await registry.put(Registration("a", path, Instance("h", 1, name)))


async def test_a_name_too_long_for_a_file_is_an_error_that_names_it(registry: Registry) -> None:
    with pytest.raises(RegistryUnavailable, match="too long"):
        await registry.put(registration(name="i" * 250))


async def test_an_update_is_never_absent_and_never_dead_for_a_reader(registry: Registry, root: Path) -> None:
    lease = await registry.put(registration(1))
    path = root / "p" / "q" / lease.node
    seen: set[bytes] = set()
    files = len(os.listdir("/proc/self/fd"))

    def read() -> None:
        end = time.monotonic() + 20
        while len(seen) < 100 and time.monotonic() < end:
            file = locks.look(path)
            assert file is not None
            seen.add(file.data)

    reading = asyncio.create_task(asyncio.to_thread(read))
    port = 1
    while not reading.done():
        port = port % 60000 + 1
        assert (await registry.put(registration(port))).node == lease.node
        await asyncio.sleep(0)
    await reading
    assert len(os.listdir("/proc/self/fd")) == files
    assert len(seen) == 100
    assert registry.holds(lease)


async def test_a_change_of_path_or_kind_is_a_new_file_before_the_old_one_goes(registry: Registry, root: Path) -> None:
    first = await registry.put(registration())
    second = await registry.put(registration(kind=NodeKind.EPHEMERAL))
    assert live(root / "p" / "q") == {"i_"}
    assert not registry.holds(first)
    assert registry.holds(second)
    third = await registry.put(Registration("a", "/other", Instance("10.0.0.1", 80, "i")))
    assert live(root / "p" / "q") == set()
    assert live(root / "other") == {third.node}


async def test_a_name_taken_over_is_left_to_who_took_it(registry: Registry, root: Path) -> None:
    async with open_registry(Locator("file", root=str(root)), quiet) as other:
        old = await registry.put(registration(1, kind=NodeKind.EPHEMERAL))
        new = await other.put(registration(2, kind=NodeKind.EPHEMERAL))
        snapshots = registry.watch("/p/q", NERVE)
        await until_ports(snapshots, [2])
        assert registry.holds(old)
        await registry.remove(old)
        assert other.holds(new)
        assert live(root / "p" / "q") == {"i_"}
        again = await registry.put(registration(1, kind=NodeKind.EPHEMERAL))
        await until_ports(snapshots, [1])
        await other.remove(new)
        assert registry.holds(again)
        assert live(root / "p" / "q") == {"i_"}


async def test_the_loser_of_a_name_hears_when_the_winner_dies(registry: Registry, root: Path, tmp_path: Path) -> None:
    old = await registry.put(Registration("a", "/x", Instance("h", 1, "owner"), NodeKind.EPHEMERAL))
    async with open_registry(Locator("file", root=str(root)), quiet) as other:
        await other.put(Registration("a", "/x", Instance("h", 2, "owner"), NodeKind.EPHEMERAL))
        lost = asyncio.create_task(registry.lost(old))
        await until_ports(registry.watch("/x", NERVE), [2])
        assert not lost.done()
    async with asyncio.timeout(5):
        await lost


async def test_a_killed_owner_is_seen_without_waiting_for_a_reading(root: Path, tmp_path: Path) -> None:
    owner = Owner(root, "/x", 20, tmp_path / "log")
    from dockstack.registry.file import open as open_file

    async with open_file(Locator("file", root=str(root)), quiet, reread=3600) as registry:
        snapshots = registry.watch("/x", NERVE)
        await anext(snapshots)
        for _ in range(5):
            await asyncio.to_thread(owner.start)
            await until_ports(snapshots, list(range(1000, 1020)))
            await asyncio.to_thread(owner.kill)
            await until_ports(snapshots, [], limit=5)


async def test_dead_files_are_ignored_and_their_own_instance_clears_them(
    registry: Registry, root: Path, tmp_path: Path
) -> None:
    owner = Owner(root, "/x", 3, tmp_path / "log")
    await asyncio.to_thread(owner.start)
    await asyncio.to_thread(owner.kill)
    directory = root / "x"
    encoded = await registry.put(Registration("e", "/x", Instance("h", 1, "owned"), path_encoding=True))
    locks.create(directory, ".tmp-dead", ".tmp-also-dead", b"").close()
    (directory / "owner_notes").write_text("not ours")
    dead = {"owner_0000000000", "owner_0000000001", "owner_0000000002", "owner_notes"}
    assert set(os.listdir(directory)) == {".registry", ".tmp-also-dead", encoded.node, *dead}
    assert ports(await anext(registry.watch("/x", NERVE))) == [1]
    (directory / ".registry").touch()
    await registry.put(Registration("a", "/x", Instance("h", 2, "owner")))
    assert set(os.listdir(directory)) == {".registry", encoded.node, "owner_notes", "owner_0000000004"}


async def test_a_dead_file_with_an_encoded_name_is_cleared_by_its_instance(registry: Registry, root: Path) -> None:
    wished = Registration("a", "/x", Instance("h", 1, "i"), path_encoding=True)
    name = (await registry.put(wished)).node
    (root / "x").joinpath(name.replace("0000000000", "0000000009")).write_bytes(encode(wished))
    async with open_registry(Locator("file", root=str(root)), quiet) as other:
        await other.put(Registration("a", "/x", Instance("h", 2, "i")))
    assert set(os.listdir(root / "x")) == {".registry", name}


async def test_closing_leaves_no_file(root: Path) -> None:
    async with open_registry(Locator("file", root=str(root)), quiet) as registry:
        await registry.put(registration(kind=NodeKind.PERSISTENT))
        await registry.put(registration(key="b"))
        assert len(live(root / "p" / "q")) == 2
    assert os.listdir(root / "p" / "q") == [".registry"]


async def test_a_file_moved_elsewhere_is_lost_and_does_not_live_on_under_its_new_name(
    registry: Registry, root: Path
) -> None:
    lease = await registry.put(registration())
    (root / "p" / "q" / lease.node).rename(root / "p" / "q" / "i_0000000099")
    async with asyncio.timeout(5):
        await registry.lost(lease)
    assert live(root / "p" / "q") == set()
    assert (await registry.put(registration())).node != lease.node


async def test_a_file_replaced_by_an_editor_is_lost_and_put_back(registry: Registry, root: Path) -> None:
    lease = await registry.put(registration())
    path = root / "p" / "q" / lease.node
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)
    async with asyncio.timeout(5):
        await registry.lost(lease)
    again = await registry.put(registration())
    assert registry.holds(again)
    assert live(path.parent) == {again.node}


async def test_a_path_below_a_path_is_not_taken_for_a_node(registry: Registry) -> None:
    await registry.put(registration())
    seen = await anext(registry.watch("/p", NERVE))
    assert (seen.instances, seen.problems) == ((), ())


async def test_unusable_files_are_named_and_the_rest_is_served(registry: Registry, root: Path) -> None:
    lease = await registry.put(registration())
    directory = root / "p" / "q"
    (directory / "link_0000000001").symlink_to(lease.node)
    held = [
        locks.create(directory, ".tmp", "broken_0000000002", b"{"),
        locks.create(directory, ".tmp", "huge_0000000003", b" " * (locks.LARGEST + 1)),
        locks.create(directory, ".tmp", os.fsdecode(b"caf\xe9_0000000004"), encode(registration(81))),
    ]
    snapshots = registry.watch("/p/q", NERVE)
    seen = await until(snapshots, lambda s: len(s.problems) == 4, "four problems")
    assert ports(seen) == [80]
    for part in ("link_0000000001", "broken_0000000002", "huge_0000000003", "caf\\udce9_0000000004"):
        assert any(part in problem for problem in seen.problems), part
    for file in held:
        file.close()
    (directory / "link_0000000001").unlink()
    await until(snapshots, lambda s: len(s.problems) == 1, "the dead ones are no problem")
