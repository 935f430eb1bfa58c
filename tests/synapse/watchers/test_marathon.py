"""Marathon's tasks: what its answers come to, and asking a server."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dockstack.errors import ConfigurationError
from dockstack.model import Instance
from dockstack.settings.discovery import MarathonDiscovery
from dockstack.synapse.watchers import marathon
from dockstack.synapse.watchers.marathon import MarathonUnavailable, MarathonWatcher, tasks
from tests.servers.certificate import certificate
from tests.servers.marathon import Marathon
from tests.synapse.watchers.following import Followed, Sessions
from tests.waiting import eventually


def task(host: Any = "h1", ports: Any = (31000, 31001), **more: Any) -> dict[str, Any]:
    return {"id": "web.1", "host": host, "ports": ports, "startedAt": "2026-01-01T00:00:00Z", **more}


def found(*listed: Any, port_index: int = 0) -> tuple[list[Instance], tuple[str, ...]]:
    snapshot = tasks(json.dumps({"tasks": listed}).encode(), port_index, "here")
    return list(snapshot.instances), snapshot.problems


def test_started_tasks_by_host() -> None:
    other = task("h0", [31005])
    assert found(task(), other, task(startedAt=None), {"id": "staged", "host": "h9"}) == (
        [Instance("h0", 31005, "h0"), Instance("h1", 31000, "h1")],
        (),
    )
    assert found(task(), port_index=1) == ([Instance("h1", 31001, "h1")], ())
    assert found() == ([], ())


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (task(ports=[]), "here: the task web.1 is left out: it has no port with the index 0"),
        (task(ports=None), "here: the task web.1 is left out: it has no port with the index 0"),
        (task(ports=[0]), "here: the task web.1 is left out: the port 0 is not between 1 and 65535"),
        (task(host=None), "here: the task web.1 is left out: there is no host"),
        (task(host="a b"), "here: the task web.1 is left out: the host 'a b' has ' ' in it"),
        (5, "here: the task 1 is left out: it is no map"),
    ],
)
def test_a_task_that_cannot_be_served_is_left_out_by_name(bad: Any, reason: str) -> None:
    instances, problems = found(task(), bad)
    assert instances == [Instance("h1", 31000, "h1")]
    assert len(problems) == 1
    assert problems[0].startswith(reason)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"5", b"{}", b'{"tasks": null}', b'{"tasks": {}}', b"[" * 100_000, b"\xff"]
)
def test_what_is_no_list_of_tasks_is_no_answer(body: bytes) -> None:
    with pytest.raises(MarathonUnavailable):
        tasks(body, 0, "here")


def watcher(followed: Followed, url: str, **more: Any) -> MarathonWatcher:
    settings = MarathonDiscovery.model_validate(
        {"method": "marathon", "marathon_api_url": url, "application_name": "web", "check_interval": 0, **more}
    )
    built = marathon.build(settings, Sessions(), followed.said.append)
    assert isinstance(built, MarathonWatcher)
    return built


@pytest.mark.parametrize(
    ("more", "url"),
    [
        ({}, "http://m:8080/v2/apps/web/tasks"),
        ({"application_name": "/group/web"}, "http://m:8080/v2/apps/group/web/tasks"),
        ({"marathon_api_path": "/other/%{app}%%20x"}, "http://m:8080/other/web%20x"),
    ],
)
def test_what_is_asked(more: dict[str, Any], url: str) -> None:
    made = watcher(Followed(), "http://m:8080/", **more)
    assert (made.url, made.place) == (url, url)
    assert (made.port_index, made.interval, made.tls) == (0, 0, None)


def test_a_password_is_not_shown() -> None:
    made = watcher(Followed(), "http://me:secret@m:8080")
    assert made.url.startswith("http://me:secret@m:8080/")
    assert made.place == "http://m:8080/v2/apps/web/tasks"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests come soon, so that the tests need not wait."""
    monkeypatch.setattr(marathon, "SHORTEST", 0.02)


@pytest.fixture
async def server() -> AsyncIterator[Marathon]:
    async with Marathon() as one:
        one.has(task("h1"))
        yield one


async def test_the_tasks_and_their_changes(server: Marathon) -> None:
    followed = Followed()
    async with followed.following(watcher(followed, server.url.replace("//", "//me:secret@"))):
        await eventually(lambda: followed.hosts == ["h1"], "the first set")
        asked = len(server.asked)
        await eventually(lambda: len(server.asked) > asked + 3, "more requests")
        assert len(followed.seen) == 1
        server.has(task("h1"), task("h2", []), task("h3"))
        await eventually(lambda: followed.hosts == ["h1", "h3"], "the change")
        assert "no port with the index 0" in followed.problems[0]
        server.has()
        await eventually(lambda: followed.hosts == [], "no tasks")
    assert server.asked[0] == ("/v2/apps/web/tasks", "Basic bWU6c2VjcmV0")
    assert followed.said == []


@pytest.mark.parametrize("fault", ["500", "404", "no JSON", "no list", "no answer within", "too much", "away"])
async def test_a_failure_keeps_the_last_set_and_is_named(
    server: Marathon, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(marathon, "LIMIT", 0.3)
    monkeypatch.setattr(marathon, "LARGEST", 1 << 20)
    followed = Followed()
    async with followed.following(watcher(followed, server.url)):
        await eventually(lambda: followed.hosts == ["h1"], "the first set")
        match fault:
            case "500" | "404":
                server.status = int(fault)
            case "no JSON":
                server.body = b"<html>"
            case "no list":
                server.body = b"{}"
            case "no answer within":
                server.delay = 1
            case "too much":
                server.body = b" " * (2 << 20)
            case _:
                await server.stop()
        word = {"too much": "more than 1 MB", "away": "asking Marathon for"}.get(fault, fault)
        await eventually(lambda: followed.has_said(word), "the failure is named")
        assert followed.has_said(f"asking Marathon for {server.url}/v2/apps/web/tasks failed")
        server.status, server.delay = 200, 0
        server.has(task("h2"))
        await server.stop()
        await server.start()
        await eventually(lambda: followed.hosts == ["h2"], "it answers again")
    assert [len(one.instances) for one in followed.seen] == [1, 1]


async def test_one_that_does_not_lead_sends_on_to_the_leader(server: Marathon) -> None:
    followed = Followed()
    async with Marathon() as other, followed.following(watcher(followed, other.url.replace("//", "//me:secret@"))):
        other.leader = server
        await eventually(lambda: followed.hosts == ["h1"], "the leader's tasks")
        assert (other.asked[0][1], server.asked[0][1]) == ("Basic bWU6c2VjcmV0", None)
        other.leader = None
        other.has(task("h2"))
        await eventually(lambda: followed.hosts == ["h2"], "it leads itself")


@pytest.mark.parametrize("trusted", ["its certificate", "any", "none"])
async def test_tls(tmp_path: Path, trusted: str) -> None:
    made = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.file, made.key)
    tls = {"its certificate": {"ca_file": str(made.file)}, "any": {"verify": False}, "none": None}[trusted]
    followed = Followed()
    async with Marathon(tls=context) as server, followed.following(watcher(followed, server.url, tls=tls)):
        server.has(task())
        if trusted == "none":
            await eventually(lambda: followed.has_said("certificate"), "who is not trusted is not asked")
            assert followed.seen == []
        else:
            await eventually(lambda: followed.hosts == ["h1"], "the set")


def test_a_certificate_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tls"):
        watcher(Followed(), "https://m", tls={"ca_file": str(tmp_path / "none")})
