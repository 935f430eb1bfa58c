"""One call for all who want it, whatever becomes of the one that makes it."""

from __future__ import annotations

import asyncio

import pytest

from dockstack.runtime.shared import Shared

pytestmark = pytest.mark.looptime


class Calls:
    def __init__(self, failure: Exception | None = None) -> None:
        self.made = 0
        self.failure = failure

    async def __call__(self) -> int:
        self.made += 1
        made = self.made
        await asyncio.sleep(1)
        if self.failure is not None:
            raise self.failure
        return made


async def test_who_comes_meanwhile_has_the_same_result_and_who_comes_later_another() -> None:
    shared, calls = Shared[int](), Calls()
    assert await asyncio.gather(*(shared.call(calls) for _ in range(5))) == [1] * 5
    assert await shared.call(calls) == 2


async def test_a_failure_is_everybodys() -> None:
    shared, calls = Shared[int](), Calls(OSError("no route"))
    outcomes = await asyncio.gather(*(shared.call(calls) for _ in range(5)), return_exceptions=True)
    assert [str(one) for one in outcomes] == ["no route"] * 5
    assert calls.made == 1


async def test_a_failure_that_nobody_else_waits_for_is_not_reported_as_lost(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(OSError, match="no route"):
        await Shared[int]().call(Calls(OSError("no route")))
    assert not caplog.records


async def test_another_one_makes_the_call_when_it_is_cancelled() -> None:
    shared, calls = Shared[int](), Calls()
    first, *others = [asyncio.create_task(shared.call(calls)) for _ in range(4)]
    await asyncio.sleep(0.5)
    first.cancel()
    assert await asyncio.gather(*others) == [2] * 3


async def test_one_who_waits_may_leave() -> None:
    shared, calls = Shared[int](), Calls()
    first, second = [asyncio.create_task(shared.call(calls)) for _ in range(2)]
    await asyncio.sleep(0.5)
    second.cancel()
    assert await first == 1
    with pytest.raises(asyncio.CancelledError):
        await second
