"""The check by a command: its status, its words, its time, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from dockstack.nerve.checks.exec import build
from dockstack.nerve.probe import Outcome
from dockstack.runtime.process import reap_orphans
from dockstack.settings.nerve import ExecCheck
from tests.nerve.checks.asking import here, nothing_left, outcome
from tests.waiting import eventually

UP = Outcome("it", True)


def settings(command: Any, **keys: Any) -> ExecCheck:
    return ExecCheck.model_validate({"type": "exec", "command": command, "timeout": 10, **keys})


async def reason(command: Any, **keys: Any) -> str:
    seen = await outcome(build, settings(command, **keys), 80)
    assert (seen.healthy, seen.bug) == (False, None)
    return seen.reason


@pytest.mark.parametrize("command", ["true", "exit 0", ["true"], ["/bin/sh", "-c", "exit 0"], "echo much; seq 100000"])
async def test_status_0_is_up(command: Any) -> None:
    assert await outcome(build, settings(command), 80) == UP


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exit 3", "the command ended with status 3"),
        ("echo one; echo two >&2; echo; exit 3", "the command ended with status 3: two"),
        ("seq 100000; printf last; exit 1", "the command ended with status 1: last"),
        (r"printf 'a\033[1m\377b\n'; exit 1", "the command ended with status 1: a�[1m�b"),
        ("printf '%0500d' 1; exit 1", "the command ended with status 1: " + "0" * 199 + "…"),
        ("kill -TERM $$", "the command was ended by SIGTERM"),
        ("kill -40 $$", "the command was ended by signal 40"),
        (["echo", "$HOME;", "exit", "1"], None),
    ],
)
async def test_another_end_is_down_and_the_last_line_says_why(command: Any, said: str | None) -> None:
    if said is None:
        assert await outcome(build, settings(command), 80) == UP
    else:
        assert await reason(command) == said


async def test_a_command_that_is_not_there_is_down() -> None:
    assert "No such file or directory: '/none'" in await reason(["/none"])
    assert "not found" in await reason("/none")


async def test_it_gets_the_address_and_the_environment(tmp_path: Path) -> None:
    names = " ".join(f"${name}" for name in ("CHECK_HOST", "CHECK_PORT", "HOME"))
    assert await outcome(build, settings(f"echo {names} > {shlex.quote(str(tmp_path / 'out'))}"), 80) == UP
    assert (tmp_path / "out").read_text() == f"127.0.0.1 80 {os.environ['HOME']}\n"


def test_the_deadline_leaves_time_to_end_it() -> None:
    assert settings("true", timeout=0.5).deadline == 1.5


def alive(pid: int) -> bool:
    """Whether the process runs: one that has ended and is not collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def forking(pids: Path) -> str:
    """A command with two processes behind it that ignore all that can be ignored."""
    return f"trap '' TERM HUP INT; for n in 1 2; do sleep 61 & echo $! >> {shlex.quote(str(pids))}; done; echo waiting"


async def test_at_the_deadline_the_whole_group_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert await reason(f"{forking(pids)}; wait", timeout=1.5) == "the command has not ended within 1.5 s: waiting"
    assert 1.5 <= loop.time() - start < 30  # its children sleep for 61 s
    left = [int(pid) for pid in pids.read_text().split()]
    assert len(left) == 2
    await eventually(lambda: not any(map(alive, left)), "the end of the group")


async def test_what_a_command_leaves_behind_neither_holds_the_check_up_nor_stays(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert await outcome(build, settings(forking(pids), timeout=20), 80) == UP
    assert loop.time() - start < 10
    left = [int(pid) for pid in pids.read_text().split()]
    await eventually(lambda: len(left) == 2 and not any(map(alive, left)), "the end of the group")


async def test_a_command_that_has_left_its_group_does_not_hold_the_check_up(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = f"setsid sh -c 'echo $$ > {shlex.quote(str(pids))}; exec yes' & sleep 0.3"
    assert await outcome(build, settings(command), 80) == UP
    await eventually(pids.exists, "the one that left")
    left = int(pids.read_text())
    await eventually(lambda: not alive(left), "its end: nobody reads its output")


async def test_an_endless_output_is_bounded() -> None:
    assert await reason("yes", timeout=0.3) == "the command has not ended within 0.3 s: y"


async def test_cancelled_it_ends_the_command(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    check = build(settings(f"{forking(pids)}; wait"), here(80))
    async with nothing_left():
        task = asyncio.ensure_future(check(here(80)))
        await eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2, "the command runs")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    left = [int(pid) for pid in pids.read_text().split()]
    await eventually(lambda: not any(map(alive, left)), "the end of the group")


async def test_the_reaper_of_orphans_takes_no_status_away() -> None:
    """As PID 1 nerve collects every ended child that nobody has collected for a while."""
    reaper = asyncio.ensure_future(reap_orphans())
    try:
        for _ in range(10):
            results = await asyncio.gather(*(outcome_of(status) for status in range(20)))
            assert [seen.reason.rpartition(" ")[2] for seen in results] == ["", *map(str, range(1, 20))]
    finally:
        reaper.cancel()


async def outcome_of(status: int) -> Outcome:
    from dockstack.nerve.judge import Rule
    from dockstack.nerve.probe import Probe, ask

    check = settings(f"exit {status}")
    return await ask(Probe("it", build(check, here(80)), here(80), check.deadline, Rule()))


async def test_a_status_that_somebody_else_has_taken_is_not_healthy() -> None:
    loop = asyncio.get_running_loop()

    def steal() -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_ALL, 0, os.WEXITED)

    async with asyncio.timeout(10):
        check = asyncio.ensure_future(outcome(build, settings(["sleep", "0.2"]), 80))
        await asyncio.sleep(0.1)
        loop.call_soon(steal)  # the loop stands still until the command has ended: only then it learns of that
        seen = await check
    assert (seen.healthy, seen.reason) == (False, "the command has ended, and its status is lost")
