from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from dockstack.errors import HaproxyUnavailable
from dockstack.model import Address
from dockstack.synapse.haproxy import master
from dockstack.synapse.haproxy.commands import Command
from dockstack.synapse.haproxy.model import Admin
from dockstack.synapse.haproxy.runtime import WINDOW, Identity, Runtime, connect, parse_identity
from tests.servers.haproxy import HaproxyBinary
from tests.synapse.haproxy.running import Small, reach, small, started


@pytest.fixture
async def one(haproxy: HaproxyBinary, tmp_path: Path) -> AsyncIterator[Small]:
    one = small(tmp_path, haproxy.path)
    one.write()
    async with started(one):
        yield one


@pytest.fixture
async def runtime(one: Small) -> AsyncIterator[Runtime]:
    runtime = await reach(one.place)
    yield runtime
    runtime.close()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def pretender(path: Path, behave: Handler) -> AsyncIterator[None]:
    """Something that greets as HAProxy does on a connection, and then behaves as the test says."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await reader.readline()
            writer.write(b"\n> ")
        await behave(reader, writer)
        writer.close()

    async with await asyncio.start_unix_server(greet, str(path)):
        yield


async def test_who_answers(one: Small, runtime: Runtime, haproxy: HaproxyBinary) -> None:
    identity = await runtime.identity(2)
    (worker,) = (await master.processes(one.place.master_socket, 5)).workers
    assert identity == Identity(worker, (haproxy.version[0], haproxy.version[1]), False, "one")


async def test_the_servers_as_they_are(runtime: Runtime) -> None:
    found = await runtime.servers(2)
    assert {name: (one.address, one.id, one.admin, one.weight) for name, one in found["b"].items()} == {
        "a": (Address("127.0.0.1", 1), 1, Admin.READY, 1),
        "c": (Address("127.0.0.1", 3), 3, Admin.MAINT, 30),
    }
    assert (await runtime.servers(2, "b")) == found
    assert (await runtime.servers(2, "empty")) == {}


async def test_servers_of_no_backend_are_an_error(runtime: Runtime) -> None:
    with pytest.raises(HaproxyUnavailable, match="no table of servers"):
        await runtime.servers(2, "none")


async def test_thousands_of_pipelined_commands_each_get_their_reply(runtime: Runtime) -> None:
    lines = [f"get weight b/{'ac'[number % 2]}" for number in range(5000)]
    lines[1234] = "show servers state"
    replies = await runtime.ask(lines, 10)
    assert len(replies) == 5000
    assert "srv_op_state" in replies[1234]
    assert all(("(initial 1)", "(initial 30)")[at % 2] in text for at, text in enumerate(replies) if at != 1234)


async def test_a_refused_command_does_not_stop_the_next(runtime: Runtime) -> None:
    refusals = await runtime.execute(
        [
            Command("add server b/n 127.0.0.1:9 id 9", ("New server registered.",)),
            Command("add server b/n 127.0.0.1:9 id 10", ("New server registered.",)),
            Command("enable server b/n"),
            Command("enable server b/none"),
        ],
        2,
    )
    assert [one.index for one in refusals] == [1, 3]
    assert "Already exists a server with the same name" in refusals[0].reply
    assert "enable server b/none" in str(refusals[1])
    assert (await runtime.servers(2, "b"))["b"]["n"].admin is Admin.READY


async def test_what_would_be_two_commands_is_never_sent(runtime: Runtime) -> None:
    for line in ("show version;show info", "show version\nshow info", "x" * 2 * WINDOW):
        with pytest.raises(ValueError, match="no line for the Runtime API"):
            await runtime.ask([line], 2)
    assert await runtime.ask(["show version"], 2) != [""]


async def test_batches_of_several_tasks_do_not_mix(runtime: Runtime) -> None:
    answers = await asyncio.gather(*(runtime.ask([f"get weight b/{name}"] * 100, 5) for name in "acacac"))
    for name, texts in zip("acacac", answers, strict=True):
        assert {"a": "(initial 1)", "c": "(initial 30)"}[name] in texts[0]
        assert len(set(texts)) == 1


async def test_the_end_of_the_process_ends_a_batch(one: Small, runtime: Runtime) -> None:
    tree = await master.processes(one.place.master_socket, 5)
    asking = asyncio.create_task(runtime.ask(["show servers state"] * 3000, 20))
    await asyncio.sleep(0)
    os.kill(tree.master, signal.SIGKILL)
    with pytest.raises(HaproxyUnavailable, match="closed the Runtime API connection"):
        await asking
    await asyncio.wait_for(runtime.wait_closed(), 2)
    with pytest.raises(HaproxyUnavailable, match="is closed"):
        await runtime.ask(["show version"], 2)


async def test_a_connection_stays_with_the_retired_worker(one: Small, runtime: Runtime) -> None:
    before = await runtime.identity(2)
    one.write(mark="two")
    assert (await master.reload(one.place.master_socket, 5)).accepted
    (fresh,) = (await master.processes(one.place.master_socket, 5)).workers
    other = await reach(one.place)
    assert await other.identity(2) == Identity(fresh, before.version, False, "two")
    other.close()
    retired = await runtime.identity(2)
    assert (retired.pid, retired.stopping) == (before.pid, True)


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(HaproxyUnavailable, match=r"none\.sock: No such file"):
        await connect(tmp_path / "none.sock", 1)


async def test_the_limit_is_one_for_all_that_a_connection_begins_with(tmp_path: Path) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for lines in (1, 2):
            for _ in range(lines):
                await reader.readline()
            await asyncio.sleep(0.4)
            writer.write(b"\n> " * lines)
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(slow, str(tmp_path / "s")):
        with pytest.raises(HaproxyUnavailable, match="no answer"):
            await connect(tmp_path / "s", 0.6)


async def test_silence_ends_with_the_limit_and_the_connection(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with pretender(tmp_path / "s", silent):
        runtime = await connect(tmp_path / "s", 1)
        before = time.monotonic()
        with pytest.raises(HaproxyUnavailable, match=r"did not answer 1 commands on .* within 0\.2 s"):
            await runtime.ask(["show info"], 0.2)
        assert time.monotonic() - before < 5
        assert runtime.closed


async def test_a_cancelled_batch_closes_the_connection(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with pretender(tmp_path / "s", silent):
        runtime = await connect(tmp_path / "s", 1)
        asking = asyncio.create_task(runtime.ask(["show info"], 5))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert runtime.closed


async def test_no_more_than_the_window_is_unanswered(tmp_path: Path) -> None:
    received = 0

    async def hoard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        while data := await reader.read(1 << 20):
            received += len(data)

    async with pretender(tmp_path / "s", hoard):
        runtime = await connect(tmp_path / "s", 1)
        with pytest.raises(HaproxyUnavailable):
            await runtime.ask(["get weight b/" + "n" * 80] * 1000, 0.5)
        assert WINDOW - 100 <= received <= WINDOW


async def test_an_answer_that_nobody_asked_for_closes_the_connection(tmp_path: Path) -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"one\n\n> two\n\n> ")
        await reader.read()

    async with pretender(tmp_path / "s", chatter):
        runtime = await connect(tmp_path / "s", 1)
        with pytest.raises(HaproxyUnavailable, match="closed the Runtime API connection"):
            await runtime.ask(["a"], 5)
        assert runtime.closed


async def test_prompts_may_arrive_in_pieces(tmp_path: Path) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        for byte in b"one\n\n> two\n> three\n\n> ":
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0.001)
        await reader.read()

    async with pretender(tmp_path / "s", drip):
        runtime = await connect(tmp_path / "s", 1)
        assert await runtime.ask(["a", "b", "c"], 5) == ["one", "two", "three"]
        runtime.close()


def test_on_uvloop_as_well(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    one = small(tmp_path, haproxy.path)
    one.write()

    async def main() -> None:
        async with started(one) as running:
            runtime = await reach(one.place)
            assert len(await runtime.ask(["show version"] * 1000, 5)) == 1000
            running.signal(signal.SIGKILL)
            await asyncio.wait_for(runtime.wait_closed(), 5)
            assert await running.gone_within(5)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_identity_of_other_text_is_an_error() -> None:
    with pytest.raises(HaproxyUnavailable, match="show info"):
        parse_identity("Unknown command", "")


def test_identity_without_a_mark() -> None:
    info = "Name: HAProxy\nVersion: 3.0.11-1+deb13u4\nPid: 12\nStopping: 1\n"
    assert parse_identity(info, "Variable not found") == Identity(12, (3, 0), True, None)
