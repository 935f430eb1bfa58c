"""EC2 and S3 as moto plays them, on a free loopback port, and what a program must find around it to use them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.servers.ports import accepts, free_port
from tests.servers.program import Program

REGION = "eu-west-1"
_THROTTLED = (
    "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message></Error>"
    "</Errors><RequestID>1</RequestID></Response>"
)


class AwsServer:
    """All its calls but `client` block: see `Program`."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port))
        self._program = Program(command, directory / "moto.log")

    @asynccontextmanager
    async def client(self, service: str) -> AsyncIterator[Any]:
        """A client of its own that puts things there."""
        from aiobotocore.session import get_session  # 27 MB, and most tests do without

        async with get_session().create_client(
            service,
            region_name=REGION,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id="owner",
            aws_secret_access_key="secret",
        ) as client:
            yield client

    def __enter__(self) -> Self:
        self._program.start(lambda: accepts(self.port), 60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._program.stop()


def surroundings(port: int, home: Path) -> Mapping[str, str]:
    """The environment in which AWS is at this port of 127.0.0.1, and nothing of this machine's own is found."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(home),
    }


@asynccontextmanager
async def throttling() -> AsyncIterator[int]:
    """The port of a server that answers as EC2 does to somebody who asks too often."""

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=503, text=_THROTTLED, content_type="text/xml")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield port
    finally:
        await runner.cleanup()
