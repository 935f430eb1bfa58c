from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dockstack.errors import HaproxyUnavailable
from dockstack.synapse.haproxy import master
from dockstack.synapse.haproxy.master import Processes, parse_processes
from tests.servers.haproxy import HaproxyBinary
from tests.synapse.haproxy.running import Small, reach, small, started

TREE = """#<PID>          <type>          <reloads>       <uptime>        <version>
8725            master          5 [failed: 1]   0d00h00m00s     2.6.12
# workers
8735            worker          0               0d00h00m01s     2.6.12
# old workers
8727            worker          2               0d00h00m02s     2.6.12
8729            worker          1               0d00h00m02s     2.6.12
# programs
9000            program         -               0d00h00m02s     -

"""


@pytest.fixture
async def one(haproxy: HaproxyBinary, tmp_path: Path) -> AsyncIterator[Small]:
    one = small(tmp_path, haproxy.path)
    one.write()
    async with started(one):
        yield one


def test_the_process_tree() -> None:
    assert parse_processes(TREE) == Processes(8725, 5, 1, (8735,), (8727, 8729))


def test_no_tree_is_an_error() -> None:
    with pytest.raises(HaproxyUnavailable, match="show proc"):
        parse_processes("Permission denied")


async def worker(one: Small) -> int:
    runtime = await reach(one.place)
    try:
        return (await runtime.identity(2)).pid
    finally:
        runtime.close()


async def test_a_reload_brings_a_new_worker(one: Small) -> None:
    before = await worker(one)
    one.write(mark="two")
    assert (await master.reload(one.place.master_socket, 5)).accepted
    tree = await master.processes(one.place.master_socket, 5)
    assert tree.reloads == 1
    assert tree.workers != (before,)
    assert await worker(one) in tree.workers


async def test_a_refused_file_leaves_the_old_worker(one: Small) -> None:
    before = await worker(one)
    one.write(frontend="nonsense here")
    reloaded = await master.reload(one.place.master_socket, 5)
    assert not reloaded.accepted
    if one.binary.samefile((await _oldest()).path):
        assert reloaded.lines == ()
    else:
        assert any("unknown keyword 'nonsense'" in line for line in reloaded.lines)
    assert await worker(one) == before
    one.write()
    assert (await master.reload(one.place.master_socket, 5)).accepted


async def _oldest() -> HaproxyBinary:
    from tests.servers.haproxy import binaries

    return next(binary for binary in binaries() if binary.version < (2, 7))


async def test_reloads_in_a_row_are_all_seen(one: Small) -> None:
    seen = {await worker(one)}
    for _ in range(5):
        assert (await master.reload(one.place.master_socket, 5)).accepted
        seen.add(await worker(one))
    assert len(seen) == 6


async def test_nobody_there_is_told_within_the_limit(tmp_path: Path) -> None:
    with pytest.raises(HaproxyUnavailable, match=r"within 0\.1 s: No such file"):
        await master.processes(tmp_path / "none.sock", 0.1)


async def test_a_master_that_accepts_and_is_silent(tmp_path: Path) -> None:
    held = []
    server = await asyncio.start_unix_server(lambda reader, writer: held.append(writer), str(tmp_path / "m.sock"))
    async with server:
        with pytest.raises(HaproxyUnavailable, match=r"did not answer `reload` .* within 0\.2 s"):
            await master.ask(tmp_path / "m.sock", "reload", 0.2)
        for writer in held:
            writer.close()
