from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from dockstack.events import Event
from dockstack.registry.url import is_name
from dockstack.synapse import names
from dockstack.synapse.names import Names, choose, system_lookup
from tests.waiting import eventually

Answers = dict[str, tuple[str, ...]]


@asynccontextmanager
async def running(
    lookup: Callable[[str], tuple[str, ...]],
) -> AsyncIterator[tuple[Names, list[frozenset[str]], list[str]]]:
    changes: list[frozenset[str]] = []
    said: list[str] = []

    def emit(event: Event) -> None:
        said.append(str(event))

    one = Names(emit, lookup)
    task = asyncio.create_task(one.run(changes.append))
    yield one, changes, said
    task.cancel()
    await asyncio.wait((task,))


def table(answers: Answers) -> Callable[[str], tuple[str, ...]]:
    def lookup(host: str) -> tuple[str, ...]:
        if host not in answers:
            raise socket.gaierror(-2, "Name or service not known")
        return answers[host]

    return lookup


@pytest.mark.parametrize(
    ("host", "name"),
    [("127.0.0.1", False), ("::1", False), ("localhost", True), ("db-1.example", True), ("1.2.3", True)],
)
def test_what_is_a_name(host: str, name: bool) -> None:
    assert is_name(host) is name


def test_an_address_in_use_is_kept_while_it_is_among_the_answers() -> None:
    assert choose(None, ("10.0.0.1", "10.0.0.2")) == "10.0.0.1"
    assert choose("10.0.0.2", ("10.0.0.1", "10.0.0.2")) == "10.0.0.2"
    assert choose("10.0.0.3", ("10.0.0.1", "10.0.0.2")) == "10.0.0.1"


def test_the_system_knows_this_host() -> None:
    assert system_lookup("localhost")[0] in ("127.0.0.1", "::1")


async def test_a_wanted_name_is_looked_up_at_once() -> None:
    async with running(table({"a": ("10.0.0.1",)})) as (one, changes, _):
        assert one.pending("a")
        one.want(["a"])
        await eventually(lambda: one.addresses == {"a": "10.0.0.1"}, "resolved")
        assert changes == [frozenset({"a"})]
        assert not one.pending("a")


async def test_another_address_is_told_and_the_same_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "EVERY", 0.02)
    answers: Answers = {"a": ("10.0.0.1",)}
    looks = 0

    def lookup(host: str) -> tuple[str, ...]:
        nonlocal looks
        looks += 1
        return answers[host]

    async with running(lookup) as (one, changes, _):
        one.want(["a"])
        await eventually(lambda: looks > 3, "several looks")
        assert len(changes) == 1
        answers["a"] = ("10.0.0.9",)
        await eventually(lambda: one.addresses["a"] == "10.0.0.9", "the new address")
        assert len(changes) == 2


async def test_a_name_that_does_not_resolve_is_told_once_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "AGAIN", 0.02)
    answers: Answers = {}
    async with running(table(answers)) as (one, changes, said):
        one.want(["a"])
        await eventually(lambda: bool(changes), "told")
        assert not one.pending("a")
        assert one.addresses == {}
        assert said == [
            "the host a cannot be resolved (Name or service not known); its servers are left out until it can"
        ]
        await asyncio.sleep(0.1)
        assert len(said) == len(changes) == 1
        answers["a"] = ("10.0.0.1",)
        await eventually(lambda: one.addresses == {"a": "10.0.0.1"}, "resolved in the end")
        assert len(changes) == 2


async def test_a_name_that_stops_resolving_keeps_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "EVERY", 0.02)
    answers: Answers = {"a": ("10.0.0.1",)}
    async with running(table(answers)) as (one, changes, said):
        one.want(["a"])
        await eventually(lambda: "a" in one.addresses, "resolved")
        del answers["a"]
        await eventually(lambda: bool(said), "told")
        assert "its last address 10.0.0.1 stays in use" in said[0]
        assert one.addresses == {"a": "10.0.0.1"}
        assert len(changes) == 1


async def test_a_resolver_that_is_silent_does_not_hold_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "LIMIT", 0.2)
    release = threading.Event()

    def lookup(host: str) -> tuple[str, ...]:
        if host == "slow":
            release.wait(30)
        return ("10.0.0.1",)

    try:
        async with running(lookup) as (one, _, said):
            one.want(["slow", "quick"])
            await eventually(lambda: "quick" in one.addresses, "the quick one", 1)
            await eventually(lambda: bool(said), "the slow one is given up", 2)
            assert "no answer within 0.2 s" in said[0]
    finally:
        release.set()


async def test_a_name_is_not_asked_for_again_while_its_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "EVERY", 0.01)
    release = threading.Event()
    asked: list[str] = []

    def lookup(host: str) -> tuple[str, ...]:
        asked.append(host)
        if host.startswith("slow"):
            release.wait(30)
        return ("10.0.0.1",)

    try:
        async with running(lookup) as (one, _, __):
            one.want(["quick", "slow"])
            await eventually(lambda: asked.count("quick") > 5, "the quick one is looked at again and again")
            assert asked.count("slow") == 1
            release.set()
            await eventually(lambda: asked.count("slow") > 5, "and so is the slow one, once it is answered")
    finally:
        release.set()


async def test_a_name_that_nobody_wants_any_more_is_forgotten() -> None:
    async with running(table({"a": ("10.0.0.1",), "b": ("10.0.0.2",)})) as (one, _, __):
        one.want(["a", "b"])
        await eventually(lambda: len(one.addresses) == 2, "resolved")
        one.want(["b"])
        assert one.addresses == {"b": "10.0.0.2"}
        assert one.pending("a")
        one.want(["a", "b"])
        await eventually(lambda: len(one.addresses) == 2, "and looked up at once when it is wanted again", 5)


async def test_a_label_that_no_resolver_takes_is_a_failure_and_no_crash() -> None:
    async with running(system_lookup) as (one, changes, said):
        one.want(["x" * 70 + ".example"])
        await eventually(lambda: bool(changes), "told")
        assert "cannot be resolved" in said[0]
