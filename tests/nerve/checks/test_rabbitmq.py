"""The RabbitMQ check against a real broker: its queue, its log, and what makes it fail."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiormq
import pytest
from aiormq.abc import AbstractChannel

from dockstack.nerve.checks.rabbitmq import build
from dockstack.nerve.judge import Rule
from dockstack.nerve.probe import Outcome, Probe, ask
from dockstack.settings.nerve import RabbitmqCheck
from tests.nerve.checks.asking import frozen, here, outcome, saying, silent
from tests.servers.certificate import Certificate, certificate
from tests.servers.ports import free_port
from tests.servers.proxy import TcpProxy
from tests.servers.rabbitmq import RabbitmqServer
from tests.waiting import eventually

UP = Outcome("it", True)


def settings(**keys: Any) -> RabbitmqCheck:
    return RabbitmqCheck.model_validate({"type": "rabbitmq", "timeout": 5, **keys})


async def reason(port: int, **keys: Any) -> str:
    seen = await outcome(build, settings(**keys), port)
    assert (seen.healthy, seen.bug) == (False, None)
    return seen.reason


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitmqServer]:
    with RabbitmqServer(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def rabbitmq(broker: RabbitmqServer) -> RabbitmqServer:
    """The broker, started again if a test has killed it."""
    if not broker.running:
        broker.start()
    return broker


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


@asynccontextmanager
async def a_channel(server: RabbitmqServer) -> AsyncIterator[AbstractChannel]:
    connection = await aiormq.connect(f"amqp://guest:guest@127.0.0.1:{server.port}/")
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def test_a_broker_is_up_its_queue_is_empty_and_its_log_has_no_warning(rabbitmq: RabbitmqServer) -> None:
    def settled() -> bool:
        return rabbitmq.log.count("accepting AMQP connection") == rabbitmq.log.count("closing AMQP connection")

    await eventually(settled, "the ends of others' connections")
    before = len(rabbitmq.log)
    for _ in range(3):
        assert await outcome(build, settings(), rabbitmq.port) == UP
    await eventually(lambda: rabbitmq.log[before:].count("accepting AMQP connection") == 3, "three in the log")
    await eventually(settled, "their ends in the log")
    said = rabbitmq.log[before:].splitlines()
    assert [line for line in said if "[warning]" in line or "[error]" in line] == []
    async with a_channel(rabbitmq) as channel:
        # Exactly the properties that the other nerve declares, else this would be refused.
        declared = await channel.queue_declare("nerve", durable=False, exclusive=False, auto_delete=False)
        assert declared.message_count == 0


async def test_the_message_expires_when_nobody_takes_it(rabbitmq: RabbitmqServer) -> None:
    async with a_channel(rabbitmq) as channel:
        await channel.queue_declare("nerve")
        await channel.basic_publish(b"before", routing_key="nerve")
        assert await outcome(build, settings(), rabbitmq.port) == UP  # takes the one that was there
        left = await channel.basic_get("nerve")
        assert (left.body, left.header.properties.expiration) == (b"nerve", "2000")
        await channel.basic_ack(left.delivery_tag or 0)


async def test_a_message_that_another_takes_is_a_failure(rabbitmq: RabbitmqServer) -> None:
    async with a_channel(rabbitmq) as channel:
        await channel.queue_declare("nerve")

        async def take(_: object) -> None:
            return

        await channel.basic_consume("nerve", take, no_ack=True)
        assert await reason(rabbitmq.port) == "the queue nerve was empty after a message was sent to it"


async def test_a_queue_of_other_properties_is_down(rabbitmq: RabbitmqServer) -> None:
    async with a_channel(rabbitmq) as channel:
        await channel.queue_delete("nerve")
        await channel.queue_declare("nerve", durable=True)
        try:
            assert "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'nerve'" in await reason(rabbitmq.port)
        finally:
            await channel.queue_delete("nerve")
    assert await outcome(build, settings(), rabbitmq.port) == UP


async def test_a_login_that_fails_is_down(rabbitmq: RabbitmqServer, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("aiormq").setLevel(logging.NOTSET)
    refused = "the broker says: ACCESS_REFUSED - Login was refused"
    with caplog.at_level(logging.INFO):
        assert (await reason(rabbitmq.port, password="wrong")).startswith(refused)
        assert (await reason(rabbitmq.port, username="nobody", password="@:/ %")).startswith(refused)
        lost = "the broker does not let guest into vhost /nowhere"
        assert await reason(rabbitmq.port, vhost="/nowhere") == lost
        assert await reason(port := free_port()) == f"{here(port)}: Connection refused"
    assert caplog.records == []


async def test_a_broker_that_stalls_is_down_in_time(rabbitmq: RabbitmqServer) -> None:
    async with TcpProxy(rabbitmq.port) as proxy:
        assert await outcome(build, settings(), proxy.port) == UP
        proxy.silence()
        assert await reason(proxy.port, timeout=0.3) == f"no answer from {here(proxy.port)} within 0.3 s"


@asynccontextmanager
async def breaking(server: RabbitmqServer, replies: int, silently: bool = False) -> AsyncIterator[int]:
    """The port of a forwarder to the broker that resets both sides instead of passing on one reply more; or only stops
    passing on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, upstream = await asyncio.open_connection("127.0.0.1", server.port)
        asking = asyncio.ensure_future(_pump(reader, upstream))
        for _ in range(replies):
            writer.write(await answers.read(65536))
        await answers.read(65536)
        if silently:
            await asking
        for end in (writer, upstream):
            end.transport.abort()
        asking.cancel()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await source.read(65536):
            sink.write(block)


# start, tune, open, channel, queue, message, the channel's and the connection's end
@pytest.mark.parametrize("replies", range(6))
async def test_a_connection_that_breaks_in_the_conversation_is_down(rabbitmq: RabbitmqServer, replies: int) -> None:
    async with breaking(rabbitmq, replies) as port:
        assert await reason(port) != ""


@pytest.mark.parametrize("replies", range(6))
async def test_a_broker_that_falls_silent_in_the_conversation_is_down_in_time(
    rabbitmq: RabbitmqServer, replies: int
) -> None:
    async with breaking(rabbitmq, replies, silently=True) as port:
        assert await reason(port, timeout=0.3) == f"no answer from {here(port)} within 0.3 s"


@pytest.mark.parametrize("replies", [6, 7])
async def test_a_connection_that_breaks_at_the_end_leaves_nothing_either(
    rabbitmq: RabbitmqServer, replies: int
) -> None:
    async with breaking(rabbitmq, replies) as port:
        assert (await outcome(build, settings(), port)).bug is None


@pytest.mark.parametrize("keys", [{}, {"tls": {"verify": False}}])
async def test_a_silent_server_is_down_in_time(keys: dict[str, Any]) -> None:
    async with silent() as port:
        assert await reason(port, timeout=0.2, **keys) == f"no answer from {here(port)} within 0.2 s"


@pytest.mark.parametrize("answer", [b"", b"AMQP\0\0\x09\1", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64])
async def test_what_is_no_broker_is_down(answer: bytes) -> None:
    async with saying(answer) as port:
        assert await reason(port) != ""


async def test_a_killed_broker_is_down(rabbitmq: RabbitmqServer) -> None:
    rabbitmq.pause()
    assert await reason(rabbitmq.port, timeout=0.3) == f"no answer from {here(rabbitmq.port)} within 0.3 s"
    rabbitmq.resume()
    rabbitmq.kill()
    assert await reason(rabbitmq.port) == f"{here(rabbitmq.port)}: Connection refused"


async def test_a_server_that_freezes_after_the_handshake_is_left_at_once(pem: Certificate) -> None:
    with frozen(pem) as (port, closed):
        check = settings(timeout=0.3, tls={"verify": False})
        start = asyncio.get_running_loop().time()
        seen = await ask(Probe("it", build(check, here(port)), here(port), check.deadline, Rule()))
        assert seen.reason.startswith("no answer")
        assert asyncio.get_running_loop().time() - start < check.deadline + 1, "the deadline"
        assert await asyncio.to_thread(closed.wait, 3)


async def test_what_announces_a_frame_without_end_is_left_at_once() -> None:
    """It would be read into memory until the time is over."""
    async with saying(b"\x01\x00\x00\xff\xff\xff\xff" + b"x" * 100_000) as port:
        assert await reason(port) == "this is no AMQP broker: it announces a frame of 4294967296 bytes"
