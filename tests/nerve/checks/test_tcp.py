"""The TCP check against real sockets, on both event loops."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from dockstack.model import Address
from dockstack.nerve.checks import Unhealthy
from dockstack.nerve.checks.tcp import build
from dockstack.settings.nerve import TcpCheck
from tests.waiting import eventually

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def with_loop(coroutine: Coroutine[Any, Any, None]) -> None:
        loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
        with asyncio.Runner(loop_factory=loops[request.param]) as runner:
            runner.run(asyncio.wait_for(coroutine, 20))

    return with_loop


def check(target: Address) -> Awaitable[None]:
    return build(TcpCheck(type="tcp"), target)(target)


def sockets() -> int:
    """How many sockets this process has open."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.append(os.readlink(entry))
        except FileNotFoundError:  # the directory's own descriptor
            continue
    return sum(name.startswith("socket:") for name in names)


def test_a_listening_port_is_up_and_no_socket_stays(run: Run) -> None:
    async def scenario(port: int) -> None:
        await check(Address("127.0.0.1", port))  # whatever the loop opens once
        before = sockets()
        for _ in range(20):
            await check(Address("127.0.0.1", port))
            assert sockets() == before

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        run(scenario(listener.getsockname()[1]))


def test_a_closed_port_is_down(run: Run) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))

        async def scenario() -> None:
            with pytest.raises(ConnectionRefusedError):
                await check(Address("127.0.0.1", unheard.getsockname()[1]))

        run(scenario())


def test_a_connection_that_hangs_leaves_no_socket_when_it_is_cancelled(run: Run) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # one connection fits, further ones get no answer

        async def scenario() -> None:
            target = Address("127.0.0.1", full.getsockname()[1])
            _, filler = await asyncio.open_connection(target.host, target.port)
            before = sockets()
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await check(target)
            await eventually(lambda: sockets() == before, "no socket more")
            filler.close()

        run(scenario())


def test_a_connection_with_itself_is_not_a_service() -> None:
    """Binds the source to the target, which chance does for one connection in some ten thousand."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        own = probe.getsockname()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        connect = loop.create_connection

        async def from_there(factory: Any, host: str, port: int) -> Any:
            return await connect(factory, host, port, local_addr=(host, port))

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(loop, "create_connection", from_there)
            with pytest.raises(Unhealthy, match="reached itself"):
                await check(Address(*own))

    asyncio.run(scenario())
