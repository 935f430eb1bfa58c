"""Files of weights in S3: on moto's server, with failures between it and us, and in a world of services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dockstack.errors import ConfigurationError
from dockstack.events import Emit, Event, Retrying
from dockstack.model import Instance
from dockstack.registry import Locator, Registration, Registry, memory
from dockstack.registry.pool import Pool
from dockstack.runtime.latest import Latest
from dockstack.settings.multi import S3ToggleResolver
from dockstack.settings.synapse import SynapseSettings
from dockstack.synapse import aws
from dockstack.synapse.events import WeightsDrawn, WeightsKept
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.resolve import Draw
from dockstack.synapse.toggle import Toggle
from dockstack.synapse.world import World
from tests.servers.aws import AwsServer, surroundings
from tests.servers.ports import free_port
from tests.servers.proxy import TcpProxy
from tests.waiting import eventually

INTERVAL = 0.1
ENDLESS = b"endless"


class Bucket:
    """S3 with one bucket, as a program sees it through a path; the objects are changed at will. None: no such key."""

    def __init__(self) -> None:
        self.port = free_port()
        self.objects: dict[str, bytes] = {}

    async def _get(self, request: web.Request) -> web.StreamResponse:
        content = self.objects.get(request.path)
        if content == ENDLESS:
            answer = web.StreamResponse()
            await answer.prepare(request)
            while True:
                await answer.write(b"x: 1 # and so on ")
        if content is None:
            text = "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
            return web.Response(status=404, text=text, content_type="application/xml")
        return web.Response(body=content)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Bucket]:
        app = web.Application()
        app.router.add_get("/{any:.*}", self._get)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture
async def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    async with Bucket().open() as one:
        for name, value in surroundings(one.port, tmp_path).items():
            monkeypatch.setenv(name, value)
        # A name that has subdomains: the bucket must not become one.
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://localhost:{one.port}")
        yield one


def resolver(url: str = "s3://weights/w.yaml") -> S3ToggleResolver:
    return S3ToggleResolver(method="s3_toggle", s3_url=url, s3_polling_interval_seconds=INTERVAL)


@asynccontextmanager
async def reading(toggle: Toggle) -> AsyncIterator[None]:
    task = asyncio.create_task(toggle.run())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_a_draw_from_s3_and_what_keeps_it(
    aws_server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "LIMIT", 0.7)
    said: list[Event] = []

    def told(what: str) -> bool:
        return any(isinstance(event, Retrying) and what in event.error for event in said)

    async with TcpProxy(aws_server.port) as proxy, aws_server.client("s3") as s3:
        for name, value in surroundings(proxy.port, tmp_path).items():
            monkeypatch.setenv(name, value)
        where = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
        await s3.create_bucket(Bucket="toggles", **where)
        toggle = Toggle(resolver("s3://toggles/some/weights.yaml"), said.append)
        async with reading(toggle):
            async with asyncio.timeout(15):
                await toggle.asked()
            await eventually(lambda: told("NoSuchKey"), "that there is no file")
            assert toggle.draws.peek() is None
            assert WeightsKept("s3://toggles/some/weights.yaml", "s3_error") in said
            await s3.put_object(Bucket="toggles", Key="some/weights.yaml", Body=b"primary: 0\nother: 5\n")
            await eventually(lambda: toggle.draws.peek() == Draw("other", {"primary": 0, "other": 5}), "a draw")
            await eventually(lambda: WeightsKept(toggle.url, "") in said, "the same again is no draw")
            await s3.put_object(Bucket="toggles", Key="some/weights.yaml", Body=b"primary: 0\nother: 0\n")
            await eventually(lambda: WeightsKept(toggle.url, "zero_sum") in said, "a bad file")
            proxy.silence()
            await eventually(lambda: told("no answer within 0.7 s"), "the silence is told")
            drawn = toggle.draws.peek()
            assert drawn is not None
            assert drawn.watcher == "other"
            await proxy.heal()
            await s3.put_object(Bucket="toggles", Key="some/weights.yaml", Body=b"primary: 1\n")
            await eventually(lambda: toggle.draws.peek() == Draw("primary", {"primary": 1}), "the next draw")
    assert [event.watcher for event in said if isinstance(event, WeightsDrawn)] == ["other", "primary"]


async def test_the_bucket_is_part_of_the_path_and_an_endless_file_is_no_map(bucket: Bucket) -> None:
    bucket.objects["/weights/w.yaml"] = ENDLESS
    toggle = Toggle(resolver(), lambda event: None)
    async with reading(toggle):
        await eventually(lambda: toggle.draws.peek() is not None, "a read", limit=aws.LIMIT / 2)
        drawn = toggle.draws.peek()
        assert drawn is not None
        assert (drawn.watcher, drawn.fault) == (None, "parse_error")


def test_the_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"s3_toggle: needs the library aiobotocore.*dockstack\[aws\]"):
        Toggle(resolver(), print)


# --- in a world of services ----------------------------------------------------------------------------------------


class Scene:
    """Services with two watchers each, on a registry in memory, and what is served of them."""

    def __init__(self, registry: memory.World) -> None:
        self.registry = registry
        self.said: list[str] = []
        self.pictures: Latest[Picture] = Latest()

    def tell(self, event: Event) -> None:
        self.said.append(str(event))

    def open(self, locator: Locator, emit: Emit) -> AbstractAsyncContextManager[Registry]:
        return self.registry.open(emit)

    @staticmethod
    def settings(**services: str) -> tuple[Layout, SynapseSettings]:
        """Each service has the name of its second watcher."""
        owns = {name: _service(port, other) for port, (name, other) in enumerate(services.items(), 81)}
        settings = SynapseSettings.model_validate(
            {"services": owns, "haproxy": {"global": [], "defaults": [], "do_writes": False, "do_socket": False}}
        )
        assert settings.haproxy is not None
        return Layout(settings.haproxy, (), "host"), settings

    @property
    def served(self) -> dict[str, str | None]:
        picture = self.pictures.peek()
        entries = {} if picture is None else picture.catalog.entries
        return {name: next((one.name for one in entry.instances), None) for name, entry in entries.items()}


def _service(port: int, other: str) -> dict[str, Any]:
    def watcher(name: str) -> dict[str, Any]:
        return {"method": "zookeeper", "hosts": ["h:1"], "path": f"/{name}"}

    return {
        "discovery": watcher("primary"),
        "discovery_multi": {"watchers": {other: watcher(other)}, "resolver": resolver().model_dump()},
        "haproxy": {"port": port, "listen": ["mode http"]},
    }


@asynccontextmanager
async def scene() -> AsyncIterator[tuple[Scene, Pool]]:
    registry = memory.World()
    one = Scene(registry)
    async with Pool(lambda event: None, one.open) as pool, registry.open(lambda event: None) as announcer:
        for name in ("primary", "x", "y"):
            await announcer.put(Registration(name, f"/{name}", Instance("10.0.0.1", 80, name)))
        yield one, pool


async def test_services_that_name_one_file_follow_one_draw(bucket: Bucket) -> None:
    bucket.objects["/weights/w.yaml"] = b"x: 1\ny: 0\n"
    async with scene() as (one, pool):
        world = World(*one.settings(a="x", b="x", c="y"), pool, one.tell)
        follow = asyncio.create_task(world.follow(one.pictures, 5.0))
        try:
            await eventually(lambda: bool(one.served), "the picture")
            assert one.served == {"a": "x", "b": "x", "c": "primary"}, "the first picture knows the draw"
            assert any("service c: s3://weights/w.yaml: the watcher x was drawn" in line for line in world.trouble)
            assert one.said.count("service c: it has no watcher x") == 1
            assert sum("the watcher x was drawn" in line and "service" not in line for line in one.said) == 1
            bucket.objects["/weights/w.yaml"] = b"primary: 1"
            await eventually(lambda: set(one.served.values()) == {"primary"}, "all go back")
            assert world.trouble == ()
            bucket.objects["/weights/w.yaml"] = b"y: 1"
            await eventually(lambda: one.served["c"] == "y", "the one that has it")
            assert one.served == {"a": "primary", "b": "primary", "c": "y"}
        finally:
            follow.cancel()
            await asyncio.wait((follow,))


async def test_other_settings_keep_the_draw_and_an_unused_file_is_not_read_any_more(bucket: Bucket) -> None:
    bucket.objects["/weights/w.yaml"] = b"x: 1"
    async with scene() as (one, pool):
        world = World(*one.settings(a="x"), pool, one.tell)
        follow = asyncio.create_task(world.follow(one.pictures, 5.0))
        try:
            await eventually(lambda: one.served == {"a": "x"}, "the draw")
            bucket.objects["/weights/w.yaml"] = b"z: 1"
            await eventually(lambda: bool(world.trouble), "a draw of what a does not have keeps x")
            world.take(await world.prepared(*one.settings(b="y", a="x"), 5.0))
            assert one.served == {"b": "primary", "a": "x"}, "a is another now, as its port is"
            assert sum("was drawn" in line and "service" not in line for line in one.said) == 2
            layout, plain = one.settings()
            world.take(await world.prepared(layout, plain, 5.0))
            await eventually(lambda: not any("Toggle.run" in repr(task) for task in asyncio.all_tasks()), "the end")
        finally:
            follow.cancel()
            await asyncio.wait((follow,))


async def test_without_s3_the_primary_serves_and_the_start_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in surroundings(free_port(), tmp_path).items():
        monkeypatch.setenv(name, value)
    async with scene() as (one, pool):
        world = World(*one.settings(a="x"), pool, one.tell)
        follow = asyncio.create_task(world.follow(one.pictures, 60.0))
        try:
            await eventually(lambda: one.served == {"a": "primary"}, "the picture")
            assert any("reading s3://weights/w.yaml failed: Could not connect" in line for line in one.said)
        finally:
            follow.cancel()
            await asyncio.wait((follow,))
