"""What stands for Marathon: an HTTP server that lists the tasks of one application, as a test wants them."""

from __future__ import annotations

import asyncio
import json
import ssl
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.servers.ports import free_port


class Marathon:
    """Answers `/v2/apps/APP/tasks` with `body`, with `status`, after `delay` seconds; all may change at any time.

    With a `leader` it sends whoever asks there. It runs in the test's own event loop. `asked` are the requests so far:
    path, and credentials.
    """

    def __init__(self, app: str = "web", tls: ssl.SSLContext | None = None) -> None:
        self.app = app
        self.port = free_port()
        self.status = 200
        self.delay = 0.0
        self.leader: Marathon | None = None
        self.body = b'{"tasks": []}'
        self.asked: list[tuple[str, str | None]] = []
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def has(self, *tasks: Any) -> None:
        """The tasks from now on."""
        self.body = json.dumps({"tasks": tasks}).encode()

    async def start(self) -> None:
        """Returns when it answers."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()

    async def stop(self) -> None:
        """Fine when it is not running."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers.get("Authorization")))
        await asyncio.sleep(self.delay)
        if self.leader is not None:
            return web.Response(status=307, headers={"Location": f"{self.leader.url}{request.path}"})
        if request.path != f"/v2/apps/{self.app}/tasks":
            return web.Response(status=404, body=b'{"message": "no such app"}')
        return web.Response(status=self.status, body=self.body, content_type="application/json")
