"""A steady load: a few clients that each open a new connection per request, and count who answered and what failed."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType

import aiohttp

CLIENTS = 4
PAUSE = 0.004
DEADLINE = 5.0


class Load:
    """Runs while its context is open. `answers` counts by the name that answered, `failures` holds a line for each."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._clients = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def requests(self) -> int:
        """How many requests have ended, either way."""
        return self.answers.total() + len(self.failures)

    async def __aenter__(self) -> Load:
        await self._clients.__aenter__()
        self._tasks = [self._clients.create_task(self._client()) for _ in range(CLIENTS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._clients.__aexit__(kind, error, trace)

    async def _client(self) -> None:
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                try:
                    async with session.get(self.url) as response:
                        text = (await response.text()).strip()
                        if response.status == 200:
                            self.answers[text] += 1
                        else:
                            self.failures.append(f"status {response.status}: {text[:100]}")
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(PAUSE)
