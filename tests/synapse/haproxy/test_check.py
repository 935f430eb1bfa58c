from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from dockstack.synapse.haproxy.check import check_file, shell
from tests.servers.haproxy import HaproxyBinary
from tests.synapse.haproxy.running import small
from tests.waiting import eventually


async def test_a_good_file_is_accepted(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    one = small(tmp_path, haproxy.path)
    one.write()
    assert (await check_file(one.binary, one.place.config, 10)).accepted


async def test_a_bad_file_is_refused_in_haproxys_own_words(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    one = small(tmp_path, haproxy.path)
    one.write(frontend="nonsense here")
    checked = await check_file(one.binary, one.place.config, 10)
    assert not checked.accepted
    assert any(f"{one.place.config}:13] : unknown keyword 'nonsense'" in line for line in checked.alerts)
    assert all("[ALERT]" in line for line in checked.alerts)


async def test_the_same_fault_has_the_same_words_each_time(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    one = small(tmp_path, haproxy.path)
    one.write(frontend="nonsense here")
    first, second = [await check_file(one.binary, one.place.config, 10) for _ in range(2)]
    assert first.alerts == second.alerts


async def test_words_without_end_are_cut(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    one = small(tmp_path, haproxy.path)
    one.write(frontend="x" * 9000)
    checked = await check_file(one.binary, one.place.config, 10)
    assert "unknown keyword 'xxx" in checked.alerts[0]
    assert len(checked.alerts[0]) <= 2000


async def test_a_check_that_cannot_be_run_is_a_refusal(tmp_path: Path) -> None:
    checked = await check_file(tmp_path / "none", tmp_path / "file", 1)
    assert not checked.accepted
    assert "cannot be run" in checked.lines[0]


async def test_a_command_that_takes_too_long_is_a_refusal_with_what_it_said() -> None:
    before = time.monotonic()
    checked = await shell("echo so far; exec sleep 30", 0.3, "missing")
    assert not checked.accepted
    assert checked.lines[0] == "so far"
    assert "was not done after 0.3 s" in checked.lines[1]
    assert time.monotonic() - before < 10


async def test_nothing_of_a_command_that_takes_too_long_is_left(tmp_path: Path) -> None:
    checked = await shell(f"sleep 30 & echo $! >{tmp_path}/pid; wait", 0.5, "missing")
    assert not checked.accepted
    child = int((tmp_path / "pid").read_text())
    await eventually(lambda: not _is_alive(child), "its child ends with it", 5)


async def test_what_a_command_is_to_begin_is_left_when_it_takes_too_long(tmp_path: Path) -> None:
    checked = await shell(f"sleep 30 & echo $! >{tmp_path}/pid; wait", 0.5, "missing", begins=True)
    assert not checked.accepted
    child = int((tmp_path / "pid").read_text())
    assert _is_alive(child)
    os.kill(child, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_daemon_left_behind_does_not_hold_the_command() -> None:
    before = time.monotonic()
    assert (await shell("sleep 20 & echo done", 15, "missing")).lines == ("done",)
    assert time.monotonic() - before < 15


async def test_a_command_has_the_shell() -> None:
    assert (await shell('test "$(echo a b | wc -w)" -eq 2 && echo yes >&2', 5, "missing")).lines == ("yes",)


async def test_a_command_that_is_not_there_is_told_apart_from_one_that_refuses() -> None:
    gone = await shell("/there-is-none.sh reload", 5, "reload_command is missing")
    assert (gone.accepted, gone.lines[-1]) == (False, "reload_command is missing")
    assert (await shell("echo no; exit 1", 5, "missing")).lines == ("no",)
