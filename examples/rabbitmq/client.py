"""Sends a message through the ambassador and gets it back: python3 client.py amqp://guest:guest@queue/"""

from __future__ import annotations

import asyncio
import sys

import aio_pika


async def main(url: str) -> None:
    """Prints the message that came back."""
    async with asyncio.timeout(10):
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True)
            await channel.default_exchange.publish(aio_pika.Message(b"there and back"), queue.name)
            message = await queue.get(timeout=5)
            print(message.body.decode())


asyncio.run(main(sys.argv[1]))
