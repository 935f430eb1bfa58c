"""What would be done: told in full, done by nobody, and what a start then does."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockstack.settings.synapse import SynapseSettings
from dockstack.synapse import preview
from dockstack.synapse.daemon import Options
from dockstack.synapse.preview import Difference, Preview, lines
from tests.real.scene import Scene, scene
from tests.servers.haproxy import HaproxyBinary

FILE = Path("/run/x/haproxy.cfg")


def told(*differences: Difference, managed: bool = True, on_disk: bool = False) -> list[str]:
    return list(lines(Preview(FILE, "global\n", on_disk, managed, differences)))


def test_the_file_comes_first_and_the_rest_is_comments() -> None:
    found = told(Difference("s: HAProxy 2.8 answers", ("a joins (add server b/a)",), ("service x: it is new",)))
    assert found == [
        "global",
        "",
        "# /run/x/haproxy.cfg: its content is another one now",
        "# s: HAProxy 2.8 answers",
        "#   a joins (add server b/a)",
        "#   a reload: service x: it is new",
    ]


@pytest.mark.parametrize(
    ("difference", "managed", "last"),
    [
        (Difference("who", ()), True, "#   nothing is to be done"),
        (Difference("why", None), True, "#   HAProxy would be started with this file"),
        (Difference("why", None), False, "#   nothing can be done"),
    ],
)
def test_what_is_not_to_be_done_is_said(difference: Difference, managed: bool, last: str) -> None:
    assert told(difference, managed=managed)[-1] == last


def test_without_a_socket_nothing_is_known_but_the_file() -> None:
    assert told(on_disk=True)[-2:] == [
        "# /run/x/haproxy.cfg: this is its content now",
        "# no socket is used: what runs is not known",
    ]


async def test_only_the_names_of_haproxys_services_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "LIMIT", 1000.0)
    top = {"global": [], "defaults": [], "do_reloads": False, "do_socket": False, "config_file_path": "/nowhere/x"}
    server = {"discovery": {"method": "base"}, "default_servers": [{"host": "localhost", "port": 80, "name": "a"}]}
    services = {"on": {**server, "haproxy": {"port": 1}}, "off": {**server, "haproxy": {"disabled": True}}}
    services["off"]["default_servers"] = [{"host": "no-such-host.invalid", "port": 80, "name": "b"}]
    settings = SynapseSettings.model_validate({"haproxy": top, "services": services})
    async with asyncio.timeout(20):
        found = await preview.preview(settings, Options(tmp_path, tmp_path), lambda _: None)
    assert "server a_localhost:80 127.0.0.1:80" in found.text or "server a_localhost:80 [::1]:80" in found.text


def test_what_haproxy_refuses_is_said() -> None:
    found = list(lines(Preview(FILE, "global\n", False, True, (), "[ALERT] no such mode")))
    assert "# HAProxy refuses this file, and what runs would go on: [ALERT] no such mode" in found


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path is short enough for HAProxy's sockets."""
    directory = Path(tempfile.mkdtemp(prefix="dsp-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def planned(place: Scene, *command: str) -> str:
    """What `dockstack plan`, or the given command, prints."""
    where = ("--run-dir", str(place.run_dir), "--state-dir", str(place.directory / "state"))
    what = (*(command or ("plan",)), "-c", str(place.directory / "synapse.json"), *where)
    done = subprocess.run(
        [sys.executable, "-m", "dockstack", *what], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Time and bytes of each file that synapse and HAProxy own."""
    found = [one for part in ("run", "state") for one in (directory / part).glob("*") if one.is_file()]
    return {str(one): (one.stat().st_mtime_ns, one.read_bytes()) for one in found}


def comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#   ")]


def refusal(haproxy: HaproxyBinary, file: Path) -> str:
    """What HAProxy has against a file."""
    done = subprocess.run([haproxy.path, "-c", "-f", file], capture_output=True, text=True, timeout=120, check=False)
    return done.stderr if done.returncode else ""


def server(place: Scene, service: str, name: str) -> str:
    return f"{name}_127.0.0.1:{place.origins.ports[f'{service}-{name}']}"


async def test_a_plan_says_what_a_start_then_does(haproxy: HaproxyBinary, short_path: Path) -> None:
    async with scene(short_path, haproxy.path, random.Random(7)) as place:
        before = await asyncio.to_thread(planned, place)
        assert not place.run_dir.exists()
        assert not (place.directory / "state").exists()
        assert comments(before) == ["#   HAProxy would be started with this file"]
        place.start()
        await place.agreement(20)
        assert before.startswith((place.run_dir / "haproxy.cfg").read_text())
        assert comments(await asyncio.to_thread(planned, place)) == ["#   nothing is to be done"]

        place.kill_synapse()
        await place.announce("web", "q")
        await place.withdraw("db", "a")
        await place.announce("web", "b", weight=9)
        place.configure(extra_sections={"backend other": ["mode http"]})
        kept, state = contents(place.directory), await place.views()
        for command in (("plan",), ("synapse", "--dry-run", "--haproxy", str(haproxy.path))):
            after = await asyncio.to_thread(planned, place, *command)
            *steps, reason = comments(after)
            assert {line.split(" (")[0] for line in steps} == {
                f"#   {server(place, 'web', 'q')} joins",
                f"#   {server(place, 'web', 'b')} has another weight",
                f"#   {server(place, 'db', 'a')} drains",
            }
            assert reason == "#   a reload: `backend other` changes"
            assert f"(add server web/{server(place, 'web', 'q')} " in after
        assert contents(place.directory) == kept
        assert (await place.views()).running == state.running
        loadable = place.directory / "planned.cfg"
        loadable.write_text(after)
        assert await asyncio.to_thread(refusal, haproxy, loadable) == ""

        place.start()
        await place.agreement(20)
        assert comments(await asyncio.to_thread(planned, place)) == ["#   nothing is to be done"]
        assert after.startswith((place.run_dir / "haproxy.cfg").read_text())


def test_what_haproxy_refuses_is_left_out_as_it_would_be(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    def written(**more: list[str]) -> subprocess.CompletedProcess[str]:
        good, bad = (
            {"host": "127.0.0.1", "port": 1, "name": "good"},
            {"host": "127.0.0.1", "port": 2, "name": "bad", "haproxy_server_options": "frobnicate"},
        )
        service = {"discovery": {"method": "base"}, "default_servers": [good, bad], "haproxy": {"port": 1}}
        broken = {"discovery": {"method": "base"}, "haproxy": {"port": 2, "listen": ["mode nonsense"]}}
        top = {"global": [], "defaults": [], "config_file_path": "haproxy.cfg", "socket_file_path": "s", **more}
        settings = {"services": {"web": service, "broken": broken}, "haproxy": top}
        (tmp_path / "s.json").write_text(json.dumps(settings))
        return subprocess.run(
            [sys.executable, "-m", "dockstack", "plan", "-c", "s.json", "--run-dir", "r", "--state-dir", "s"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )

    done = written()
    assert "server bad_127.0.0.1:2 is left out, HAProxy does not take it" in done.stderr
    assert "service broken: HAProxy does not take its settings, the service is left out" in done.stderr
    assert ("good_127" in done.stdout, "bad_127" in done.stdout, "frontend broken" in done.stdout) == (
        True,
        False,
        False,
    )
    loadable = tmp_path / "planned.cfg"
    loadable.write_text(done.stdout)
    assert refusal(haproxy, loadable) == ""
    assert "# HAProxy refuses this file, and what runs would go on: [ALERT]" in written(defaults=["frobnicate"]).stdout
    assert {one.name for one in tmp_path.iterdir()} == {"s.json", "planned.cfg"}


def test_settings_that_cannot_be_carried_out_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"services": {}}))
    done = subprocess.run(
        [sys.executable, "-m", "dockstack", "plan", "-c", "s.json", "--run-dir", "r", "--state-dir", "s"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "s.json:1: there is no output" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["s.json"]
