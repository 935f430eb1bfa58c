"""What etcd's gateway can answer besides what was asked for, and who else may answer in its place."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from dockstack.errors import RegistryUnavailable
from dockstack.events import Event
from dockstack.model import Address
from dockstack.registry import Locator
from dockstack.registry.etcd.events import Connected, LeaseLost, Unreachable
from dockstack.registry.etcd.gateway import AT_ONCE, EACH, Gateway
from dockstack.registry.etcd.lease import Tenure
from dockstack.runtime import pace
from dockstack.runtime.scope import servants
from tests.contract.recording import tasks_of_ours
from tests.waiting import eventually

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

OK = {"header": {"revision": "7"}}


def says(content: object, status: int = 200) -> Answer:
    text = content if isinstance(content, str) else json.dumps(content)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status)

    return answer


@asynccontextmanager
async def peer(answers: dict[str, Answer], otherwise: Answer | None = None) -> AsyncIterator[int]:
    """A server that answers the methods (`kv/txn`) as given, on the port that it yields."""

    async def answer(request: web.Request) -> web.StreamResponse:
        method = request.path.removeprefix("/v3/")
        return await answers.get(method, otherwise or says({**OK, "leader": "1"}))(request)

    application = web.Application()
    application.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def gateway(
    *ports: int, told: list[Event] | None = None, user: tuple[str, str] | None = None
) -> AsyncIterator[Gateway]:
    name, password = user or (None, None)
    locator = Locator("etcd", tuple(Address("127.0.0.1", port) for port in ports), username=name, password=password)
    made = Gateway(locator, None, (told if told is not None else []).append)
    try:
        async with servants() as tasks:
            tasks.create_task(made.run())
            yield made
    finally:
        await made.close()


@pytest.mark.parametrize("content", ["<html>Welcome</html>", "[]", '"ok"', "null", "{}", "7", ""])
async def test_somebody_else_who_answers_is_not_taken_for_etcd(content: str) -> None:
    told: list[Event] = []
    async with peer({}, says(content)) as port, gateway(port, told=told) as made:
        for _ in range(3):
            with pytest.raises(RegistryUnavailable, match="is this the client port of etcd"):
                await made.call("kv/txn", {})
        assert [type(event) for event in told] == [Unreachable]
        assert "no answer of etcd's" in made.state


async def test_a_long_outage_is_told_again_and_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SHORTEST", 0.1)
    told: list[Event] = []
    async with peer({}, says("[]")) as port, gateway(port, told=told) as made:
        while len(told) < 3:
            with pytest.raises(RegistryUnavailable):
                await made.call("kv/txn", {})
    last = told[-1]
    assert isinstance(last, Unreachable)
    assert last.seconds >= 0.3
    assert str(replace(last, seconds=48.2)).endswith("trying on, for 48 s by now")


async def test_a_redirect_is_not_followed_with_a_password() -> None:
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with peer({}, redirect) as port, gateway(port, user=("nerve", "s3cret")) as made:
        with pytest.raises(RegistryUnavailable, match="HTTP status 307"):
            await made.call("kv/txn", {})
    assert set(asked) <= {"/v3/auth/authenticate", "/v3/maintenance/status"}


async def test_a_long_answer_may_take_long_as_long_as_it_goes_on() -> None:
    async def slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        text = json.dumps({**OK, "responses": []}).encode()
        for at in range(0, len(text), len(text) // 3):
            await response.write(text[at : at + len(text) // 3])
            await asyncio.sleep(EACH * 0.6)
        return response

    async with peer({"kv/txn": slowly}) as port, gateway(port) as made:
        clock = asyncio.get_running_loop().time
        began = clock()
        assert (await made.call("kv/txn", {}))["header"] == OK["header"]
        assert clock() - began > EACH


@pytest.mark.parametrize(
    "line",
    [
        b"<html>\n",
        b"[]\n",
        b"null\n",
        b'{"error":"gone"}\n',
        b'{"error":{"code":14,"message":"etcdserver: no leader"}}\n',
    ],
)
async def test_a_watch_that_turns_into_something_else_is_given_up(line: bytes) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"result":{"header":{"revision":"7"},"created":true}}\n')
        await asyncio.sleep(0.05)
        await response.write(line)
        await asyncio.sleep(30)
        return response

    told: list[Event] = []
    async with peer({"watch": stream}) as port, gateway(port, told=told) as made, asyncio.timeout(10):
        async with aclosing(made.watch({})) as batches:
            assert await anext(batches) == [{"header": {"revision": "7"}, "created": True}]
            with pytest.raises(RegistryUnavailable):
                await anext(batches)
        assert [type(event) for event in told][:2] == [Connected, Unreachable]


async def test_all_that_has_come_is_told_together() -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        messages = [{"result": {"header": {"revision": str(number)}}} for number in range(50)]
        await response.write("".join(f"{json.dumps(one)}\n" for one in messages).encode())
        await asyncio.sleep(30)
        return response

    async with peer({"watch": stream}) as port, gateway(port) as made, asyncio.timeout(10):
        async with aclosing(made.watch({})) as batches:
            seen = len(await anext(batches))
            await asyncio.sleep(0.2)
            if seen < 50:
                seen += len(await anext(batches))
        assert seen == 50


async def test_a_user_is_logged_in_once_for_all() -> None:
    logins = 0

    async def login(request: web.Request) -> web.StreamResponse:
        nonlocal logins
        logins += 1
        await asyncio.sleep(0.1)
        return web.json_response({**OK, "token": f"t{logins}"})

    async def call(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "t2":  # the first one has run out
            return web.json_response({"code": 16, "message": "etcdserver: invalid auth token"}, status=401)
        return web.json_response(OK)

    async with (
        peer({"auth/authenticate": login, "kv/txn": call}) as port,
        gateway(port, user=("nerve", "s3cret")) as made,
    ):
        assert await asyncio.gather(*(made.call("kv/txn", {}) for _ in range(50))) == [OK] * 50
    assert logins == 2


@pytest.mark.parametrize("message", ["user name is empty", "revision of auth store is old"])
async def test_a_token_that_is_no_longer_good_by_another_name_is_replaced(message: str) -> None:
    logins = 0

    async def login(request: web.Request) -> web.StreamResponse:
        nonlocal logins
        logins += 1
        if logins == 1 and message == "user name is empty":
            return await says({"code": 9, "message": "etcdserver: authentication is not enabled"}, 412)(request)
        return web.json_response({**OK, "token": f"t{logins}"})

    async def call(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "t2":
            return web.json_response({"code": 3, "message": f"etcdserver: {message}"}, status=400)
        return web.json_response(OK)

    async with (
        peer({"auth/authenticate": login, "kv/txn": call}) as port,
        gateway(port, user=("nerve", "s3cret")) as made,
    ):
        assert await made.call("kv/txn", {}) == OK


async def test_a_member_that_is_left_while_a_user_logs_in() -> None:
    came, go_on = asyncio.Event(), asyncio.Event()

    async def login(request: web.Request) -> web.StreamResponse:
        came.set()
        await go_on.wait()
        return web.json_response({**OK, "token": "t"})

    async with (
        peer({"auth/authenticate": login, "kv/txn": says(OK)}) as port,
        gateway(port, user=("nerve", "s3cret")) as made,
    ):
        calls = [asyncio.create_task(made.call("kv/txn", {})) for _ in range(3)]
        await came.wait()
        made.renew("for the test")
        await asyncio.sleep(0.1)
        go_on.set()
        assert await asyncio.gather(*calls) == [OK] * 3


@pytest.mark.parametrize("turns", range(4))
async def test_a_member_that_is_left_before_the_end_of_the_last_one_was_noticed(turns: int) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"result":{"header":{"revision":"7"},"created":true}}\n')
        await asyncio.sleep(30)
        return response

    async with peer({"watch": stream}) as port, gateway(port) as made, aclosing(made.watch({})) as batches:
        await anext(batches)
        reading = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0.05)
        made.renew("one")
        for _ in range(turns):
            await asyncio.sleep(0)
        made.renew("two")
        async with asyncio.timeout(10):
            with pytest.raises(RegistryUnavailable):
                await reading


async def test_watches_are_opened_a_few_at_a_time() -> None:
    opening = most = 0
    count = 4 * AT_ONCE

    async def stream(request: web.Request) -> web.StreamResponse:
        nonlocal opening, most
        opening += 1
        most = max(most, opening)
        await asyncio.sleep(0.1)
        opening -= 1
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"result":{"header":{"revision":"7"},"created":true}}\n')
        await asyncio.sleep(30)
        return response

    opened = 0

    async def follow(made: Gateway) -> None:
        nonlocal opened
        async with aclosing(made.watch({})) as batches:
            async for _ in batches:
                opened += 1

    async with peer({"watch": stream}) as port, gateway(port) as made, servants() as tasks:
        for _ in range(count):
            tasks.create_task(follow(made))
        await eventually(lambda: opened == count, "all opened", 20)
    assert most <= AT_ONCE


async def test_what_comes_after_the_end_asks_nobody_and_leaves_nothing() -> None:
    before = asyncio.all_tasks()
    async with peer({}) as port:
        async with gateway(port) as made:
            await made.call("kv/txn", {})
        with pytest.raises(RegistryUnavailable, match="being closed"):
            await made.call("kv/txn", {})
        with pytest.raises(RegistryUnavailable, match="being closed"):
            await anext(made.watch({}))
    await eventually(lambda: not tasks_of_ours(before), "no task of ours")


@pytest.mark.parametrize(
    "content",
    [
        {"result": {}},
        {"result": {"header": {}, "ID": "8", "TTL": "0"}},
        {"header": {}},
        {"error": {"code": 14, "message": "etcdserver: no leader"}},
        {"error": {"grpc_code": 14, "message": "etcdserver: no leader"}},
        "<html>",
    ],
)
async def test_only_etcds_word_ends_a_lease(content: Any) -> None:
    asked = 0
    answer = says(content)

    async def keepalive(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await (answer if asked < 3 else says({"result": {"header": {}, "ID": "7"}}))(request)

    told: list[Event] = []
    answers = {"lease/grant": says({**OK, "ID": "7", "TTL": "1"}), "lease/keepalive": keepalive}
    async with peer(answers) as port, gateway(port, told=told) as made, servants() as tasks:
        tenure = Tenure(made, 1, lambda lease: None, told.append)
        tasks.create_task(tenure.run())
        assert await tenure.lease() == 7
        await eventually(lambda: asked >= 2, "asked twice")
        assert tenure.current == 7
        await eventually(lambda: tenure.current is None, "an answer about the lease, without a TTL")
        assert [event for event in told if isinstance(event, LeaseLost)]


async def test_a_lease_without_a_number_is_none() -> None:
    async with peer({"lease/grant": says(OK)}) as port, gateway(port) as made:
        tenure = Tenure(made, 1, lambda lease: None, lambda event: None)
        with pytest.raises(RegistryUnavailable):
            await tenure.lease()
