"""Sends a message through the ambassador and gets it back: python3 client.py amqp://guest:guest@queue/"""

from __future__ import annotations

import asyncio
import sys

import aiormq


async def main(url: str) -> None:
    """Prints the message that came back."""
    async with asyncio.timeout(10):
        connection = await aiormq.connect(url)
        try:
            channel = await connection.channel()
            queue = (await channel.queue_declare(exclusive=True)).queue
            assert queue
            await channel.basic_publish(b"there and back", routing_key=queue)
            message = await channel.basic_get(queue)
            print(message.body.decode())
        finally:
            await connection.close()


asyncio.run(main(sys.argv[1]))
