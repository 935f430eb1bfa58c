"""A file of weights in S3, read again and again: whoever names the same file and interval follows the same draw."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from dockstack.events import Emit
from dockstack.runtime import loops
from dockstack.runtime.latest import Latest
from dockstack.settings.multi import S3ToggleResolver
from dockstack.synapse import aws
from dockstack.synapse.events import WeightsDrawn, WeightsKept
from dockstack.synapse.resolve import LARGEST, Draw, draw


class Toggle:
    """Reads the file and draws. `draws` has the newest draw, also one that a bad content has not changed.

    Raises ConfigurationError where AWS' library is not installed.
    """

    def __init__(self, settings: S3ToggleResolver, emit: Emit) -> None:
        aws.require("the resolver s3_toggle")
        self.url = settings.s3_url
        self.draws: Latest[Draw] = Latest()
        self._file = settings.file
        self._interval = settings.s3_polling_interval_seconds
        self._emit = emit
        self._asked = asyncio.Event()

    async def asked(self) -> None:
        """Returns when the file was read, or could not be, for the first time."""
        await self._asked.wait()

    async def run(self) -> None:
        """Reads at once and then each interval, for ever; a failed read keeps the draw and is tried again."""
        last = Draw()
        slowest = max(self._interval, 1.0)
        reads = loops.follow(
            f"reading {self.url}", self._reads, (aws.AwsUnavailable,), self._emit, slowest, gently=True
        )
        async for content in reads:
            new = draw(last, content, random.random)
            if new.watcher is not None and new.weights is not last.weights:
                self._emit(WeightsDrawn(self.url, new.watcher))
            else:
                self._emit(WeightsKept(self.url, new.fault))
            last = new
            self.draws.put(new)
            self._asked.set()

    async def _reads(self) -> AsyncIterator[bytes]:
        # The second read comes after a part of the interval only, so that hosts that started together spread.
        pause = self._interval * random.random()
        try:
            async with aws.client("s3", aws.Access()) as s3:
                while True:
                    async with asyncio.timeout(aws.LIMIT):
                        content = await self._read(s3)
                    yield content
                    await asyncio.sleep(pause)
                    pause = self._interval
        except aws.AwsUnavailable:
            self._emit(WeightsKept(self.url, "s3_error"))
            self._asked.set()
            raise

    async def _read(self, s3: aws.Client) -> bytes:
        bucket, key = self._file
        answer = await s3.get_object(Bucket=bucket, Key=key)
        content = b""
        async with answer["Body"] as body:
            async for block in body.iter_chunks():
                content += block
                if len(content) > LARGEST:
                    break
        return content
