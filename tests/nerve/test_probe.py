"""Rounds of checks: deadlines, broken checks, the order, and what ends a round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.nerve.judge import History, Rule
from dockstack.nerve.probe import Outcome, Probe, ask, run

TARGET = Address("127.0.0.1", 3306)


def a_probe(check: Check, name: str = "web tcp", rule: Rule | None = None, deadline: float = 0.5) -> Probe:
    return Probe(name, check, TARGET, deadline, rule or Rule())


def raising(error: Exception) -> Check:
    async def check(target: Address) -> None:
        raise error

    return check


def scripted(results: str) -> tuple[Check, Callable[[], int]]:
    """A check that answers by the text's `+` and `-` in turn, and how often it was asked."""
    asked = 0

    async def check(target: Address) -> None:
        nonlocal asked
        asked += 1
        if results[asked - 1] == "-":
            raise Unhealthy("no")

    return check, lambda: asked


async def test_a_check_that_returns_is_healthy() -> None:
    async def check(target: Address) -> None:
        assert target == TARGET

    assert await ask(a_probe(check)) == Outcome("web tcp", True)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unhealthy("the server says: Too many connections"), "the server says: Too many connections"),
        (Unhealthy(), "unhealthy"),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 3306)"), "127.0.0.1:3306: Connection refused"),
        (OSError("Multiple exceptions: a, b"), "127.0.0.1:3306: Multiple exceptions: a, b"),
        (TimeoutError("Connection timeout to host"), "Connection timeout to host"),
        (TimeoutError(), "no answer from 127.0.0.1:3306 within 0.5 s"),
    ],
)
async def test_an_expected_failure_is_a_reason(error: Exception, reason: str) -> None:
    assert await ask(a_probe(raising(error))) == Outcome("web tcp", False, reason)


@pytest.mark.looptime
async def test_a_check_has_no_more_than_its_deadline() -> None:
    async def check(target: Address) -> None:
        await asyncio.sleep(3600)

    loop = asyncio.get_running_loop()
    start = loop.time()
    outcome = await ask(a_probe(check, deadline=0.25))
    assert loop.time() - start == pytest.approx(0.25)
    assert outcome == Outcome("web tcp", False, "no answer from 127.0.0.1:3306 within 0.25 s")


async def test_a_bug_in_a_check_is_a_failure_with_its_traceback() -> None:
    outcome = await ask(a_probe(raising(ZeroDivisionError("division by zero"))))
    assert not outcome.healthy
    assert outcome.reason == "the check broke: ZeroDivisionError('division by zero')"
    assert outcome.bug is not None
    assert "in check\n    raise error" in outcome.bug


async def test_cancellation_goes_through() -> None:
    task = asyncio.ensure_future(ask(a_probe(raising(asyncio.CancelledError()))))  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await task


async def rounds(count: int, *scripts: tuple[str, Rule]) -> tuple[list[str], list[int]]:
    """The beliefs after each round, and how often each check was asked."""
    checks = [scripted(results) for results, _ in scripts]
    probes = tuple(
        a_probe(check, str(place), rule)
        for place, ((check, _), (_, rule)) in enumerate(zip(checks, scripts, strict=True))
    )
    histories, said = tuple(History() for _ in probes), []
    for _ in range(count):
        histories, _ = await run(probes, histories)
        said.append("".join({True: "+", False: "-", None: "?"}[history.up] for history in histories))
    return said, [asked() for _, asked in checks]


async def test_the_first_check_that_is_not_up_ends_the_round() -> None:
    said, asked = await rounds(3, ("+-+", Rule()), ("+-", Rule()))
    assert said == ["++", "-+", "+-"]
    assert asked == [3, 2]


async def test_a_failure_that_is_forgiven_does_not_end_the_round() -> None:
    said, asked = await rounds(3, ("+--", Rule(fall=2)), ("++", Rule()))
    assert said == ["++", "++", "-+"]
    assert asked == [3, 2]


async def test_each_check_counts_its_own_results() -> None:
    said, _ = await rounds(4, ("++++", Rule(fall=2)), ("+-+-", Rule(rise=2)))
    assert said == ["++", "+-", "+-", "+-"]


async def test_a_round_gives_the_results_in_order() -> None:
    probes = (a_probe(scripted("+")[0], "a"), a_probe(scripted("-")[0], "b"), a_probe(scripted("+")[0], "c"))
    _, outcomes = await run(probes, (History(), History(), History()))
    assert outcomes == (Outcome("a", True), Outcome("b", False, "no"))
