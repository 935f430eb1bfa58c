"""What nerve asks of an engine: a proxy before a real one writes it down, and refuses everything but GET."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, UnixConnector, web

from dockstack.events import Event
from tests.docker.alive import alive
from tests.docker.engine import Engine, base
from tests.docker.yard import Yard
from tests.servers.ports import free_port
from tests.waiting import eventually

ALLOWED = re.compile(r"(?:/v[0-9.]+)?/(?:_ping|version|events|containers/json|containers/[0-9a-f]{64}/json)")
SERVER = (
    "$SIG{TERM} = sub { exit };"
    "my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 9, ReuseAddr => 1) or die $!;"
    "while (1) { my $c = $s->accept or next; close $c }"
)


@asynccontextmanager
async def recorded(engine: Engine, asked: list[tuple[str, str]]) -> AsyncIterator[str]:
    """The address of a proxy before the engine; each request is put into `asked`."""

    async def forward(request: web.Request) -> web.StreamResponse:
        asked.append((request.method, request.path))
        if request.method != "GET" or not ALLOWED.fullmatch(request.path):
            return web.Response(status=403, text="forbidden")
        async with session.get(f"http://docker{request.path_qs}") as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", forward)
    runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
    port = free_port()
    async with ClientSession(connector=UnixConnector(str(engine.socket)), timeout=ClientTimeout()) as session:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"tcp://127.0.0.1:{port}"
        finally:
            await runner.cleanup()


async def test_only_get_and_only_these_paths(engine: Engine, yard: Yard, tmp_path: Path) -> None:
    image = base(engine)
    asked: list[tuple[str, str]] = []
    events: list[Event] = []
    command = ("perl", "-MIO::Socket::INET", "-e", SERVER)
    labels = ("--label", "dockstack.web.port=80", "--label", "dockstack.web.check=quick", "--publish", "80")
    registry = tmp_path / "registry"
    before = yard.run("before", image, command, labels)

    def registered() -> int:
        return sum(f'"port":{one.port(80)}' in text for one in there for text in nodes("web"))

    def nodes(service: str) -> list[str]:
        found = []
        for file in (registry / service).glob("alive_*"):
            with contextlib.suppress(FileNotFoundError):
                found.append(file.read_text())
        return found

    named = f"named:tcp:{yard.name('named')}:80:/named"
    async with recorded(engine, asked) as host, alive(tmp_path, host, f"file://{registry}", events.append, [named]):
        there = [before]
        await eventually(lambda: registered() == 1, "what ran before", 20, 0.1)
        there.append(yard.run("after", image, command, labels))
        yard.run("named", image, command, ("--publish", "80"))
        await eventually(lambda: registered() == 2, "what was started", 20, 0.1)
        await eventually(lambda: len(nodes("named")) == 1, "what is named", 20, 0.1)
        before.stop()
        there.remove(before)
        await eventually(lambda: registered() == len(nodes("web")) == 1, "what was stopped", 20, 0.1)
    assert {method for method, _ in asked} == {"GET"}
    assert [path for _, path in asked if not ALLOWED.fullmatch(path)] == []
    paths = {re.sub("[0-9a-f]{64}", "ID", re.sub("^/(?:v[0-9.]+/)?", "", path)) for _, path in asked}
    assert paths == {"version", "events", "containers/json", "containers/ID/json"}
