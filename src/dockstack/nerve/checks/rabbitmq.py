"""Up when a RabbitMQ broker takes a message and gives one back: publish to the queue `nerve`, get, acknowledge.

A connection for each round: one that is kept would hide that the broker accepts no new ones (its limit, a changed
password, a vhost that is gone), and needs tasks and heartbeats of its own. The end is the protocol's, so that the
broker does not warn of it in its log. The queue is that of SmartStack's nerve, so that both can check one broker.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.nerve.checks._tls import FAREWELL, context_of
from dockstack.plugins import extra
from dockstack.settings.nerve import RabbitmqCheck

if TYPE_CHECKING:
    import ssl

    from aiormq.abc import AbstractConnection

_QUEUE = "nerve"
_EXPIRATION = "2000"  # milliseconds, as AMQP wants it: text
_BODY = b"nerve"
_LONGEST_FRAME = 1 << 20
"""Bytes of one frame: brokers agree to 128 KB. What is no broker can announce four gigabytes, and send them."""


class _Reader(asyncio.StreamReader):
    """Waits for no frame that is longer than a broker's can be."""

    async def readexactly(self, n: int) -> bytes:
        if n > _LONGEST_FRAME:
            raise Unhealthy(f"this is no AMQP broker: it announces a frame of {n} bytes")
        return await super().readexactly(n)


def build(settings: RabbitmqCheck, target: Address) -> Check:
    """The check with its TLS context; raises ValueError without the client, OSError when a file cannot be used."""
    with extra("rabbitmq", "the rabbitmq check"):
        import aiormq  # noqa: F401 - at the start, where there is time for it
    # It reports as errors of its own what the check raises, each time.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    context = context_of(settings.tls)

    async def check(target: Address) -> None:
        await ask(settings, target, context)

    return check


async def ask(settings: RabbitmqCheck, target: Address, context: ssl.SSLContext | None) -> None:
    """One conversation on a connection of its own; raises Unhealthy with the broker's own words, OSError."""
    from aiormq import Connection
    from aiormq.connection import TransportFactory
    from aiormq.exceptions import AMQPError, ChannelInvalidStateError, InvalidFrameError
    from yarl import URL

    class Wire(TransportFactory):
        """Opens the connection, and keeps hold of it."""

        writer: asyncio.StreamWriter | None = None

        async def create(self, url: URL, **kwargs: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            loop = asyncio.get_running_loop()
            reader = _Reader(loop=loop)
            protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
            transport, _ = await loop.create_connection(
                lambda: protocol,
                target.host,
                target.port,
                ssl=context,
                ssl_shutdown_timeout=FAREWELL if context else None,
            )
            self.writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            return reader, self.writer

    wire = Wire()
    url = URL.build(scheme="amqp", user=settings.username, password=settings.password, host="broker")
    connection = Connection(url, transport_factory=wire)
    connection.vhost = settings.vhost
    try:
        await connection.connect()
        await _send_and_take(connection)
        await connection.close()
    except InvalidFrameError as error:
        if "Connection.OpenOk" in str(error):
            raise Unhealthy(f"the broker does not let {settings.username} into vhost {settings.vhost}") from error
        raise Unhealthy("this is no AMQP broker: its answer is not of the protocol") from error
    except (AMQPError, ChannelInvalidStateError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise Unhealthy(_words(error)) from error
    finally:
        if wire.writer is not None:
            wire.writer.transport.abort()  # a polite end would wait for a broker that is silent
        if wire.writer is not None and not connection.is_closed:
            await connection.close()


async def _send_and_take(connection: AbstractConnection) -> None:
    from pamqp.commands import Basic

    channel = await connection.channel(publisher_confirms=False)
    await channel.queue_declare(_QUEUE)
    await channel.basic_publish(_BODY, routing_key=_QUEUE, properties=Basic.Properties(expiration=_EXPIRATION))
    taken = await channel.basic_get(_QUEUE)
    if taken.delivery_tag is None:
        raise Unhealthy(f"the queue {_QUEUE} was empty after a message was sent to it")
    await channel.basic_ack(taken.delivery_tag)
    await channel.close()


def _words(error: Exception) -> str:
    said = " ".join(str(part) for part in error.args if part)
    return f"the broker says: {said}" if said else type(error).__name__
