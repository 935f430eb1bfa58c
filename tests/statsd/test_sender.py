"""Sending, to a real socket, to nobody, and to a name that does not exist."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from dockstack.events import Event, Note
from dockstack.settings.common import StatsdSettings
from dockstack.statsd import Metric, sender
from dockstack.statsd.sender import sending
from tests.servers.ports import free_port
from tests.servers.statsd import Receiver
from tests.waiting import eventually


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def named(event: Event) -> tuple[Metric, ...]:
    name, _, kind = str(event).partition(" ")
    return (Metric(name, ("a:b",), 1 if not kind else 2.5, "ms" if kind else "c"),)


async def test_equal_counts_are_one_line_and_times_are_not(receiver: Receiver) -> None:
    async with sending(StatsdSettings(host="127.0.0.1", port=receiver.port), named) as emit:
        for _ in range(1000):
            emit(Note("count"))
        for _ in range(3):
            emit(Note("time ms"))
        await eventually(lambda: len(receiver.lines()) == 4, "all lines")
        assert sorted(receiver.lines()) == ["count:1000|c|#a:b", *["time:2.5|ms|#a:b"] * 3]
        assert len(receiver.datagrams) == 1
        emit(Note("last"))
    assert receiver.lines()[-1] == "last:1|c|#a:b"  # what waits is sent at the end


async def test_metrics_go_with_the_next_ones_and_never_too_late(receiver: Receiver) -> None:
    loop = asyncio.get_running_loop()
    async with sending(StatsdSettings(host="127.0.0.1", port=receiver.port), named) as emit:
        emit(Note("one"))
        await asyncio.sleep(sender.FLUSH)
        assert not receiver.lines()
        emit(Note("two"))
        await eventually(lambda: len(receiver.lines()) == 2, "both, together", sender.LATEST / 2)
        assert len(receiver.datagrams) == 1
        began = loop.time()
        emit(Note("alone"))
        await eventually(lambda: len(receiver.lines()) == 3, "the last one alone", 2 * sender.LATEST)
        assert loop.time() - began > sender.LATEST / 2


async def test_a_rate_sends_a_share_and_says_so(receiver: Receiver) -> None:
    rates = {"seldom": 0.1, "never": 0.0}
    settings = StatsdSettings(host="127.0.0.1", port=receiver.port, sample_rate=rates)
    async with sending(settings, named) as emit:
        for _ in range(5000):
            emit(Note("seldom"))
            emit(Note("never"))
            emit(Note("always"))
        await eventually(lambda: len(receiver.lines()) == 2, "the lines")
    found = dict(line.split(":", 1) for line in receiver.lines())
    assert found.keys() == {"seldom", "always"}
    assert found["always"] == "5000|c|#a:b"
    count, rest = found["seldom"].split("|", 1)
    assert 350 < int(count) < 650
    assert rest == "c|@0.1|#a:b"


async def test_nobody_listens_and_nothing_happens() -> None:
    async with sending(StatsdSettings(host="127.0.0.1", port=free_port()), named) as emit:
        for _ in range(3):
            emit(Note("x"))
            await asyncio.sleep(2 * sender.FLUSH)


async def test_a_name_that_does_not_exist_costs_bounded_memory_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "MOST", 100)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with sending(StatsdSettings(host="no-such-host.invalid"), named) as emit:
        for number in range(1000):
            emit(Note(f"n{number}"))
        waiting = emit.__self__  # type: ignore[attr-defined]
        assert len(waiting.lines()) == 100
    assert loop.time() - began < 2


async def test_what_happens_before_the_name_is_known_is_not_lost(receiver: Receiver) -> None:
    async with sending(StatsdSettings(host="localhost", port=receiver.port), named) as emit:
        emit(Note("first"))
        await eventually(lambda: receiver.lines() == ["first:1|c|#a:b"], "the line")
