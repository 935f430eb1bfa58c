"""The daemon as a process, on a directory as the registry, with real HAProxys."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dockstack.admin.client import NoAnswer
from dockstack.admin.client import ask as ask_daemon
from dockstack.admin.report import Report
from dockstack.events import Event
from dockstack.model import Instance
from dockstack.registry import Lease, Locator, Registration, Registry, open_registry
from dockstack.synapse import daemon, snapshot
from dockstack.synapse.haproxy import process
from dockstack.synapse.haproxy.model import Admin
from dockstack.synapse.haproxy.place import server_name
from tests.e2e.programs import dockstack, until
from tests.servers.haproxy import HaproxyBinary
from tests.servers.ports import accepts, free_port
from tests.servers.statsd import Receiver
from tests.synapse.haproxy.applying import Load, Origins, Stand, answers, cleared, origins
from tests.waiting import eventually


def ignore(event: Event) -> None:
    """Events are of no interest here."""


@dataclass
class Synapse:
    """`dockstack synapse` with one service, `web`, started and killed at will."""

    stand: Stand
    backs: Origins
    registry: Registry
    running: asyncio.subprocess.Process | None = None
    leases: dict[str, Lease] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.stand.ports["web"]

    @property
    def log(self) -> Path:
        return self.stand.directory / "synapse.log"

    def configure(self, statsd: dict[str, Any] | None = None, **top: Any) -> None:
        own = self.stand.service("web")
        own["discovery"] = {"method": "file", "directory": str(self.stand.directory / "registry"), "path": "/web"}
        own |= self.more
        text = {
            "services": {"web": own},
            "statsd": statsd,
            "haproxy": {
                "global": [],
                "defaults": ["timeout connect 500ms", "timeout client 10s", "timeout server 10s", "retries 3"],
                "bind_address": "127.0.0.1",
                "config_file_path": str(self.stand.place.config),
                "socket_file_path": str(self.stand.place.stats_socket),
                "restart_interval": 0.1,
                **top,
            },
        }
        (self.stand.directory / "synapse.json").write_text(json.dumps(text))

    async def start(self, *arguments: str) -> None:
        directory = self.stand.directory
        with self.log.open("ab") as log:
            self.running = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "dockstack", "synapse", "-c", str(directory / "synapse.json")),
                *("--run-dir", str(directory), "--state-dir", str(directory), "--haproxy", str(self.stand.binary)),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def report(self, question: Any = "ready") -> Report:
        try:
            return ask_daemon(self.stand.directory / daemon.SOCKET, question, 2)
        except NoAnswer as error:
            return Report(False, (str(error),))

    async def ready(self, limit: float = 20.0) -> None:
        async with asyncio.timeout(limit):
            while not (await asyncio.to_thread(self.report)).ok:
                assert self.running is not None
                assert self.running.returncode is None, self.log.read_text()
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        assert self.running is not None
        self.running.kill()
        await self.running.wait()

    async def terminate(self) -> float:
        """Seconds from SIGTERM to the end, which must be an orderly one."""
        assert self.running is not None
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.running.terminate()
        async with asyncio.timeout(10):
            assert await self.running.wait() == 0, self.log.read_text()
        return loop.time() - begun

    async def announce(self, *names: str) -> None:
        """These origins are registered, and no others."""
        for name in [name for name in self.leases if name not in names]:
            await self.registry.remove(self.leases.pop(name))
        for name in names:
            if name not in self.leases:
                (instance,) = await self.backs.start(name)
                self.leases[name] = await self.registry.put(Registration(name, "/web", instance))

    async def serves(self, *names: str, limit: float = 15.0) -> None:
        async with asyncio.timeout(limit):
            while await answers(self.port) != set(names):  # noqa: ASYNC110 - HAProxy sends no event
                await asyncio.sleep(0.01)

    async def in_service(self) -> dict[str, tuple[str, int]]:
        """Name → address and weight of each server that takes traffic, as HAProxy has it."""
        link = await self.stand.link()
        found = link.running.backends["web"].servers if "web" in link.running.backends else {}
        link.close()
        ready = {name: one for name, one in found.items() if one.admin is Admin.READY}
        return {name: (f"{one.server.address} id {one.server.id}", one.weight) for name, one in ready.items()}

    def in_file(self) -> dict[str, tuple[str, int]]:
        """The same, as the file has it."""
        rows = [line.split() for line in self.stand.file().splitlines() if line.startswith("\tserver ")]
        return {row[1]: (f"{row[2]} id {row[4]}", 1) for row in rows if row[-1] != "disabled"}


@asynccontextmanager
async def synapse_on(binary: Path) -> AsyncIterator[Synapse]:
    directory = Path(tempfile.mkdtemp(prefix="dsd-"))  # a Unix socket's path has a limit
    async with AsyncExitStack() as stack:
        stand = await stack.enter_async_context(cleared(Stand(directory, binary)))
        backs = await stack.enter_async_context(origins())
        locator = Locator("file", root=str(directory / "registry"))
        registry = await stack.enter_async_context(open_registry(locator, ignore))
        one = Synapse(stand, backs, registry)
        one.configure()
        try:
            yield one
        finally:
            if one.running is not None and one.running.returncode is None:
                await one.kill()


@pytest.fixture
async def synapse(haproxy: HaproxyBinary) -> AsyncIterator[Synapse]:
    async with synapse_on(haproxy.path) as one:
        yield one


async def test_its_whole_life(synapse: Synapse) -> None:
    await synapse.announce("a", "b")
    await synapse.start()
    await synapse.ready()
    assert await answers(synapse.port) == {"a", "b"}
    await synapse.announce("b", "c")
    await synapse.serves("b", "c")
    told = re.compile(r"INFO web: .*\bc_\S+ joins.*, in ")
    await eventually(lambda: told.search(synapse.log.read_text()) is not None, "the change is told")
    assert "reloads: 0, repaired: 0" in synapse.report("health").lines
    assert await synapse.terminate() < 5
    assert synapse.stand.masters() == []
    assert not accepts(synapse.port)
    assert not synapse.stand.place.stats_socket.exists()


async def test_a_killed_one_leaves_haproxy_which_the_next_adopts_under_load(synapse: Synapse) -> None:
    await synapse.announce("a", "b")
    await synapse.start()
    await synapse.ready()
    haproxy = await synapse.stand.master()
    async with Load(synapse.port) as load:
        for names in (("a", "b", "c"), ("b", "c"), ("a", "c", "d")):
            await synapse.kill()
            await synapse.announce(*names)  # while nobody looks
            await load.more(20)
            await synapse.start()
            await synapse.ready()
            await synapse.serves(*names)
            assert await synapse.stand.master() == haproxy
    assert (load.bad, load.good > 60) == (0, True)


async def test_killed_at_random_moments_it_comes_to_the_right_end(synapse: Synapse) -> None:
    """SIGKILL of synapse, of HAProxy or of both in the middle of a random change."""
    draw = random.Random(7)
    names: tuple[str, ...] = ("a",)
    await synapse.announce(*names)
    await synapse.start()
    await synapse.ready()
    for _ in range(12):
        names = tuple(draw.sample("abcdef", draw.randint(1, 5)))
        change = asyncio.create_task(synapse.announce(*names))
        await asyncio.sleep(draw.random() * 0.05)
        victim = draw.choice(("synapse", "haproxy", "both"))
        if victim != "synapse":
            for pid in synapse.stand.masters():
                os.kill(pid, signal.SIGKILL)
        if victim != "haproxy":
            await synapse.kill()
            await synapse.start()
        await change
        await synapse.ready()
        await synapse.serves(*names)
        await synapse.stand.master()
        running = await synapse.in_service()
        assert {name.split("_")[1].split(":")[0] for name in running} == {"127.0.0.1"}
        assert {name.split("_")[0] for name in running} == set(names)
        await eventually(lambda now=running: synapse.in_file() == now, "the file follows")  # type: ignore[misc]


async def test_what_was_saved_serves_while_the_registry_is_away(synapse: Synapse) -> None:
    synapse.more = {"default_servers": [{"host": "127.0.0.1", "port": free_port(), "name": "spare"}]}
    synapse.configure()
    await synapse.announce("a", "b")
    await synapse.start()
    await synapse.ready()
    ids = await synapse.in_service()
    saved = synapse.stand.directory / snapshot.FILE
    await eventually(
        lambda: saved.exists() and len(snapshot.load(saved)["web"].entry.instances) == 2, "the snapshot is written"
    )
    await synapse.terminate()
    registry = synapse.stand.directory / "registry"
    registry.rename(registry.with_suffix(".away"))
    registry.write_text("no directory: the registry cannot be read")
    await synapse.start("--startup-grace", "0.3")
    await synapse.ready()
    assert await answers(synapse.port) == {"a", "b"}
    assert await synapse.in_service() == ids
    assert any("its watcher has not answered yet" in line for line in synapse.report().lines)
    await synapse.terminate()
    own = json.loads((synapse.stand.directory / "synapse.json").read_text())
    own["services"]["web"]["discovery"]["path"] = "/other"  # another place: it does not inherit
    (synapse.stand.directory / "synapse.json").write_text(json.dumps(own))
    await synapse.start("--startup-grace", "0.3")
    await synapse.ready()
    assert [name.split("_")[0] for name in await synapse.in_service()] == ["spare"]


async def test_a_damaged_snapshot_is_told_and_ignored(synapse: Synapse) -> None:
    (synapse.stand.directory / snapshot.FILE).write_text("{")
    await synapse.announce("a")
    await synapse.start()
    await synapse.ready()
    assert "the saved snapshot is not used" in synapse.log.read_text()
    assert await answers(synapse.port) == {"a"}


async def test_an_end_before_the_first_picture_ends_the_haproxy_of_the_last_run(synapse: Synapse) -> None:
    await synapse.announce("a")
    await synapse.start()
    await synapse.ready()
    await synapse.kill()
    await synapse.stand.master()
    registry = synapse.stand.directory / "registry"
    registry.rename(registry.with_suffix(".away"))
    registry.write_text("no directory: the registry cannot be read")
    await synapse.start("--startup-grace", "60")
    await eventually(lambda: synapse.report("health").ok, "it runs")
    assert not synapse.report("ready").ok
    assert await answers(synapse.port) == {"a"}  # nothing is touched while nothing is known
    assert await synapse.terminate() < 5
    assert synapse.stand.masters() == []


async def test_a_haproxy_that_never_comes_up_is_not_well(synapse: Synapse) -> None:
    await synapse.announce("a")
    missing = synapse.stand.place.config.parent / "later"  # neither a check nor synapse sees that a bind needs it
    synapse.configure(extra_sections={"frontend more": [f"bind unix@{missing}/more.sock"]})
    await synapse.start()
    said = re.compile(r"degraded: HAProxy is not running: \(master \d+\) ended with status 1; its own words are")
    await eventually(lambda: any(map(said.match, synapse.report("health").lines)), "its end is told")
    assert not synapse.report("health").ok
    missing.mkdir()
    await synapse.ready()
    assert synapse.report("health").ok
    broken: dict[str, Any] = {"global": ["frobnicate"]}
    synapse.configure(**broken)
    await synapse.terminate()
    synapse.stand.place.config.unlink()  # else HAProxy is started with the last file
    await synapse.start()
    await eventually(lambda: "HAProxy refuses" in str(synapse.report("health").lines), "its refusal is told")
    assert not synapse.report("health").ok


async def test_a_frozen_haproxy_does_not_hold_the_end(synapse: Synapse) -> None:
    await synapse.announce("a")
    await synapse.start()
    await synapse.ready()
    for pid in process.ours(synapse.stand.place.master_socket):
        os.kill(pid, signal.SIGSTOP)
    assert await synapse.terminate() < 5.5
    assert synapse.stand.masters() == []


async def test_an_unknown_host_name_and_a_bad_registration_do_not_stop_the_rest(synapse: Synapse) -> None:
    await synapse.announce("a")
    bad = Instance("no-such-host.invalid", 80, "gone")
    worse = Instance("127.0.0.1", 80, "worse", haproxy_server_options="frobnicate")
    await synapse.registry.put(Registration("bad", "/web", bad))
    await synapse.registry.put(Registration("worse", "/web", worse))
    await synapse.start()
    await synapse.ready()
    assert await answers(synapse.port) == {"a"}
    await eventually(
        lambda: any("no-such-host.invalid" in line for line in synapse.report("health").lines), "the bad host is told"
    )
    left_out = "service web: server worse_127.0.0.1:80 is left out, HAProxy does not take it"
    assert left_out in synapse.log.read_text()
    assert [line for line in synapse.report("health").lines if line.startswith(f"degraded: {left_out}")]


async def test_a_file_that_haproxy_does_not_take_is_told_once_with_its_line(synapse: Synapse) -> None:
    synapse.configure(extra_sections={"backend other": ["frobnicate 7"]})
    looks = synapse.stand.directory / "looks"
    haproxy, synapse.stand.binary = synapse.stand.binary, synapse.stand.directory / "haproxy"
    synapse.stand.binary.write_text(f'#!/bin/sh\necho >>{looks}\nexec {haproxy} "$@"\n')
    synapse.stand.binary.chmod(0o755)
    await synapse.start()
    await eventually(lambda: looks.exists() and len(looks.read_bytes()) > 5, "several looks at it")
    log = synapse.log.read_text()
    assert log.count("unknown keyword 'frobnicate'") == 1
    assert "(the line is: frobnicate 7)" in log
    assert "HAProxy refuses the new configuration; HAProxy does not run yet" in log
    assert await synapse.terminate() < 5


# --- the state file ------------------------------------------------------------------------------------------------


async def test_the_state_file_of_smartstack_is_taken_over_and_kept(synapse: Synapse) -> None:
    path = synapse.stand.directory / "state.json"
    await synapse.announce("a", "b")
    instance = synapse.leases["a"].registration.instance
    name = server_name(instance)
    gone = {"name": "old", "host": "127.0.0.9", "port": 9, "id": 3, "timestamp": int(time.time()) - 60}
    state = {"web": {"old_127.0.0.9:9": {**gone, "haproxy_server_id": 77}, name: {**gone, "haproxy_server_id": 66}}}
    state["web"][name] |= {"name": "a", "host": instance.host, "port": instance.port}
    path.write_text(json.dumps(state))
    synapse.configure(state_file_path=str(path), state_file_ttl=1000)
    await synapse.start()
    await synapse.ready()
    await synapse.serves("a", "b")
    assert (await synapse.in_service())[name][0].endswith(" id 66")
    assert "server old_127.0.0.9:9 127.0.0.9:9 id 77" in synapse.stand.file()
    assert "old_127.0.0.9:9" not in synapse.in_file()
    await synapse.announce("b")
    await synapse.serves("b")
    await eventually(lambda: name not in synapse.in_file() and f"server {name} " in synapse.stand.file(), "disabled")

    def known() -> dict[str, int]:
        servers = json.loads(path.read_text())["web"]
        return {key: one["haproxy_server_id"] for key, one in servers.items() if "timestamp" in one}

    await eventually(lambda: len(known()) == 3, "written")
    assert (known()[name], known()["old_127.0.0.9:9"]) == (66, 77)
    await synapse.announce("a", "b")
    await synapse.serves("a", "b")
    assert (await synapse.in_service())[name][0].endswith(" id 66")
    assert "reloads: 0, repaired: 0" in synapse.report("health").lines
    assert await synapse.terminate() < 5


async def test_a_state_file_serves_at_a_first_start_while_the_registry_is_away(tmp_path: Path) -> None:
    config, path = tmp_path / "haproxy.cfg", tmp_path / "state.json"
    alive = {"host": "127.0.0.9", "port": 9, "timestamp": int(time.time()), "haproxy_server_id": 77}
    path.write_text(json.dumps({"web": {"127.0.0.9:9": alive, "127.0.0.9:8": {**alive, "port": 8, "timestamp": 1}}}))
    away = {"method": "zookeeper", "hosts": [f"127.0.0.1:{free_port()}"], "path": "/web"}
    top = {"global": [], "defaults": [], "config_file_path": str(config), "state_file_path": str(path)}
    plain = {"services": {"web": {"discovery": away}}, "haproxy": {**top, "do_reloads": False, "do_socket": False}}
    (tmp_path / "synapse.json").write_text(json.dumps(plain))
    where = ("--run-dir", str(tmp_path), "--state-dir", str(tmp_path), "--startup-grace", "0.2")
    with dockstack(tmp_path / "log", "synapse", "-c", str(tmp_path / "synapse.json"), *where) as daemon_:
        until("the file", config.exists, 30, daemon_)
        assert "\tserver 127.0.0.9:9 127.0.0.9:9 id 77 cookie 127.0.0.9:9\n" in config.read_text()
        daemon_.terminate()


# --- other outputs -------------------------------------------------------------------------------------------------


def test_files_alone_need_no_haproxy(tmp_path: Path) -> None:
    server = {"port": 80, "host": "h"}
    services = {"web": {"discovery": {"method": "base"}, "default_servers": [server], "haproxy": {"port": 80}}}
    plain = {"services": services, "file_output": {"output_directory": str(tmp_path / "deep" / "out")}}
    (tmp_path / "synapse.json").write_text(json.dumps(plain))
    where = ("--run-dir", str(tmp_path), "--state-dir", str(tmp_path))
    with dockstack(tmp_path / "log", "synapse", "-c", str(tmp_path / "synapse.json"), *where) as daemon_:
        until("ready", lambda: _ready(tmp_path), 30, daemon_)
        assert (tmp_path / "deep" / "out" / "web.json").read_text() == '[{"port":80,"host":"h"}]'
        assert not list(tmp_path.glob("*haproxy*"))
        daemon_.terminate()


def _ready(run_dir: Path) -> bool:
    try:
        return ask_daemon(run_dir / daemon.SOCKET, "ready", 2).ok
    except NoAnswer:
        return False


def test_a_directory_that_cannot_be_made_is_the_users_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    plain = {"services": {}, "file_output": {"output_directory": str(tmp_path / "file" / "out")}}
    (tmp_path / "synapse.json").write_text(json.dumps(plain))
    where = ("--run-dir", str(tmp_path), "--state-dir", str(tmp_path))
    with dockstack(tmp_path / "log", "synapse", "-c", str(tmp_path / "synapse.json"), *where) as daemon_:
        assert daemon_.process.wait(60) == 2
        assert "file_output.output_directory" in daemon_.output


async def test_its_metrics_arrive(haproxy: HaproxyBinary) -> None:
    with Receiver() as receiver:
        async with synapse_on(haproxy.path) as synapse:
            synapse.configure(statsd={"host": "127.0.0.1", "port": receiver.port})
            await synapse.announce("a")
            await synapse.start()
            await synapse.ready()
            await eventually(lambda: any("ping_result:success" in line for line in receiver.lines()), "a ping")
            await synapse.terminate()
        lines = receiver.lines()
    names = {line.partition(":")[0] for line in lines}
    assert names >= {
        "synapse.start", "synapse.stop", "synapse.main_loop.elapsed_time", "synapse.watchers.start.time",
        "synapse.config.update", "synapse.watcher.start", "synapse.watcher.stop", "synapse.watcher.ping.count",
    }  # fmt: skip
    assert "synapse.watcher.start:1|c|#start_result:success,watcher_name:web" in lines
    assert "synapse.stop:1|c|#stop_avenue:clean,stop_location:main_loop" in lines


async def test_a_changed_file_is_taken_over(haproxy: HaproxyBinary) -> None:
    async with synapse_on(haproxy.path) as synapse:
        await synapse.announce("a")
        await synapse.start()
        await synapse.ready()
        settings = synapse.stand.directory / "synapse.json"
        text = settings.read_text()
        settings.write_text("{")
        await eventually(lambda: "was not reloaded, the old one stays" in synapse.log.read_text(), "the complaint")
        await synapse.serves("a")
        other = json.loads(text)
        other["services"]["web"]["default_servers"] = [{"host": "127.0.0.1", "port": 1}]
        settings.write_text(json.dumps(other))
        await eventually(lambda: "the configuration was reloaded" in synapse.log.read_text(), "the new settings")
        await synapse.serves("a")
