"""A configuration that HAProxy refuses, by SIGHUP: the old one serves, the line is named, and servers come and go."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockstack.admin.client import ask
from dockstack.demo.load import Load
from tests.real.scene import Scene, scene
from tests.servers.haproxy import HaproxyBinary
from tests.servers.ports import accepts, free_port
from tests.waiting import eventually


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path is short enough for HAProxy's sockets."""
    directory = Path(tempfile.mkdtemp(prefix="dsr-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


async def serves(place: Scene, load: Load, name: str) -> None:
    """Waits until that origin answers."""
    await eventually(lambda: load.answers[f"web-{name}"] > 0, f"{name} is served\n{place.log}")


def health(place: Scene) -> str:
    return "\n".join(ask(place.run_dir / "synapse.sock", "health").lines)


def hang_up(place: Scene) -> None:
    assert place.synapse is not None
    place.synapse.process.send_signal(signal.SIGHUP)


async def test_a_refused_candidate_leaves_the_old_one_serving(haproxy: HaproxyBinary, short_path: Path) -> None:
    async with scene(short_path, haproxy.path, random.Random(5)) as place:
        place.start()
        before = await place.agreement(20)
        await eventually(lambda: len(place.masters()) == 1, "one HAProxy")  # it executes itself after a start
        worker = place.masters()
        async with Load(f"http://{place.address}:{place.ports['web']}/") as load:
            place.configure(extra_sections={"backend other": ["mode http", "frobnicate 7"]})
            hang_up(place)
            refused = "unknown keyword 'frobnicate'"
            await eventually(lambda: refused in place.log, "the line is named")
            assert "HAProxy refuses the new configuration; the old one goes on serving" in place.log
            assert "frobnicate 7" in place.log
            assert refused in health(place)

            await place.announce("web", "new")
            await serves(place, load, "new")
            await place.withdraw("web", "a")
            after = await place.agreement(20)
            assert after.running["web"].keys() ^ before.running["web"].keys() == {
                *(name for name in before.running["web"] if name.startswith("a_")),
                *(name for name in after.running["web"] if name.startswith("new_")),
            }
            assert "frobnicate" not in (place.run_dir / "haproxy.cfg").read_text()
            await eventually(lambda: place.masters() == worker, "the same HAProxy")

            port = free_port()
            place.configure(extra_sections={"listen other": ["mode http", f"bind {place.address}:{port}"]})
            hang_up(place)
            await eventually(lambda: accepts(port, place.address), "the next one is loaded")
            await eventually(lambda: refused not in health(place), "nothing is in the way any more")
            await place.agreement(20)
            assert place.log.count(refused) == 1
        assert load.failures == []


async def test_a_service_that_haproxy_refuses_is_degraded_and_the_rest_goes_on(
    haproxy: HaproxyBinary, short_path: Path
) -> None:
    async with scene(short_path, haproxy.path, random.Random(7)) as place:
        place.start()
        await place.agreement(20)
        async with Load(f"http://{place.address}:{place.ports['web']}/") as load:
            place.configure(extra_sections={"backend more": ["mode http"]})
            file = place.directory / "synapse.json"
            document = json.loads(file.read_text())
            document["services"]["web"]["haproxy"]["listen"].append("timeout server soon")
            file.write_text(json.dumps(document))
            hang_up(place)
            degraded = "degraded: service web: HAProxy does not take its settings, the last that it took are in use: "
            await eventually(lambda: degraded in health(place), "listed")
            assert "(the line is: timeout server soon)" in health(place)
            written = place.run_dir / "haproxy.cfg"
            await eventually(lambda: "backend more" in written.read_text(), "what else is new is loaded")
            await place.announce("web", "new")
            await serves(place, load, "new")

            place.configure(extra_sections={"backend more": ["mode http"]})
            hang_up(place)
            await eventually(lambda: "degraded" not in health(place), "with good settings all is well")
            await place.agreement(20)
        assert load.failures == []


async def test_a_configuration_that_is_wrong_itself_changes_nothing(short_path: Path) -> None:
    haproxy = shutil.which("haproxy") or "/usr/sbin/haproxy"
    async with scene(short_path, Path(haproxy), random.Random(6)) as place:
        place.start()
        await place.agreement(20)
        (place.directory / "synapse.json").write_text('{"services": {}, "haproxi": {}}')
        hang_up(place)
        await eventually(lambda: "was not reloaded, the old one stays" in place.log, "told")
        assert "haproxi: unknown key, and there is no output of this name; did you mean haproxy?" in place.log
        await place.announce("web", "new")
        await place.agreement(20)
        assert place.synapse is not None
        assert await asyncio.to_thread(place.synapse.terminate) < 5
