"""nerve as a program beside a real engine: the published port of a container, through whatever happens to it."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dockstack.admin.client import NoAnswer, ask
from tests.docker.conftest import Figures
from tests.docker.engine import Engine, base
from tests.docker.yard import Container, Yard
from tests.e2e.programs import Daemon, dockstack, until

PORT = 8080
LIMIT = 20.0
# It accepts connections, closes them, and ends at SIGTERM: it is the first process, which has no default for that.
SERVER = (
    "$SIG{TERM} = sub { exit 0 };"
    "my $l = IO::Socket::INET->new(LocalPort => 8080, Listen => 64, ReuseAddr => 1) or die;"
    "while (1) { my $c = $l->accept or next; close $c }"
)
COMMAND = ("perl", "-MIO::Socket::INET", "-e", SERVER)
STUBBORN = ("perl", "-MIO::Socket::INET", "-e", SERVER.partition(";")[2])
PUBLISHED = ("--publish", f"127.0.0.1::{PORT}")


class Nerve:
    """The daemon, with a directory as registry in which it has one service, `web`."""

    def __init__(self, home: Path, daemon: Daemon) -> None:
        self.home = home
        self.daemon = daemon

    def nodes(self) -> list[dict[str, Any]]:
        found = []
        for file in sorted((self.home / "registry" / "web").glob("nerve_*")):
            try:
                found.append(json.loads(file.read_bytes()))
            except FileNotFoundError:
                continue
        return found

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(node["host"], node["port"]) for node in self.nodes()]

    def at(self, *places: tuple[str, int]) -> float:
        """Seconds until just these are registered."""
        return until(f"a registration at {places}", lambda: self.places == list(places), LIMIT, self.daemon)

    def lines(self) -> tuple[str, ...]:
        try:
            return ask(self.home / "run" / "nerve.sock", "health").lines
        except NoAnswer:
            return ()


StartNerve = Callable[..., AbstractContextManager[Nerve]]


@pytest.fixture
def nerve(engine: Engine) -> Iterator[StartNerve]:
    """Starts the daemon for a container: `nerve(name, "--advertise", "docker", settings={"check_interval": 60})`."""
    home = Path(tempfile.mkdtemp(prefix="dsd-"))

    @contextmanager
    def start(
        container: str,
        *options: str,
        kind: str = "tcp",
        host: str = "127.0.0.1",
        settings: Mapping[str, object] | None = None,
    ) -> Iterator[Nerve]:
        spec = f"web:{kind}:{container}:{PORT}:/web"
        changes = {"check_interval": 0.1, **(settings or {})}
        raw = "|".join(f".{key}={json.dumps(value)}" for key, value in changes.items())
        words = ("-d", f"file://{home}/registry", "-s", spec, "-r", f"web:{raw}", "--run-dir", f"{home}/run")
        with dockstack(home / "log", "nerve", *words, *options, DOCKER_HOST=engine.host, SERVICE_HOST=host) as daemon:
            yield Nerve(home, daemon)

    yield start
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def web(engine: Engine, yard: Yard) -> Callable[..., Container]:
    """Starts a container that serves: `web("--publish", …, command=STUBBORN)`."""
    image = base(engine)
    return lambda *options, command=COMMAND: yard.run("web", image, command, options)


def published(container: Container) -> tuple[str, int]:
    return "127.0.0.1", container.port(PORT)


def test_a_container_is_waited_for_and_its_port_followed(
    nerve: StartNerve, web: Callable[..., Container], yard: Yard, engine: Engine, figures: Figures
) -> None:
    with nerve(yard.name("web")) as running:
        until("a word", lambda: "does not exist; it is waited for" in running.daemon.output, LIMIT, running.daemon)
        found = web(*PUBLISHED)
        running.at(published(found))
        first = published(found)
        began = time.time()
        found.restart()
        figures(
            "docker restart -> registered anew", f"{(running.at(published(found)) + time.time() - began) * 1e3:.0f} ms"
        )
        assert published(found) != first
        engine.docker("network", "disconnect", "bridge", found.name)
        running.at()
        engine.docker("network", "connect", "bridge", found.name)
        running.at(published(found))
        engine.docker("rm", "--force", found.name)
        running.at()
        running.at(published(web("--publish", f"127.0.0.1:0:{PORT}")))
        assert running.daemon.output.count("waited for") == 1
        assert running.daemon.terminate() < 2
        assert running.nodes() == []
        assert "Traceback" not in running.daemon.output


def test_events_withdraw_without_a_check_and_a_check_announces(
    nerve: StartNerve, web: Callable[..., Container], figures: Figures
) -> None:
    found = web("--stop-timeout", "1", *PUBLISHED, command=STUBBORN)
    docker = found.engine.docker
    with nerve(found.name, settings={"check_interval": 60}) as running:
        running.at(published(found))
        docker("kill", "--signal", "HUP", found.name)  # of the first process's signals only SIGKILL is not ignored
        docker("pause", found.name)
        running.at()
        docker("unpause", found.name)
        running.at(published(found))
        moment = time.time()
        docker("kill", "--signal", "TERM", found.name)
        running.at()
        gone = time.time()
        killed = told(found, "kill", moment)
        figures("the engine's kill event -> withdrawn", f"{(gone - killed) * 1e3:.0f} ms")
        assert gone - killed < 0.2
        running.at(published(found))  # it has not ended within its stop timeout
        docker("kill", found.name)
        running.at()
        docker("start", found.name)
        running.at(published(found))
        reasons = [line.rpartition(": ")[2] for line in running.daemon.output.splitlines() if "web is down" in line]
        assert reasons[-3:] == ["is not running (paused)", "is being stopped", "is being stopped"], reasons


def test_its_own_address_is_registered_where_that_is_wished(
    nerve: StartNerve, web: Callable[..., Container], yard: Yard
) -> None:
    network = yard.network("back")
    found = web("--network", network)
    with nerve(found.name, "--advertise", f"docker:{network}") as running:
        running.at((found.address(network), PORT))
        found.restart()
        running.at((found.address(network), PORT))


def test_an_ipv6_port(nerve: StartNerve, web: Callable[..., Container]) -> None:
    found = web("--publish", f"[::1]::{PORT}")
    with nerve(found.name, host="::1") as running:
        port = int(found.engine.docker("port", found.name, str(PORT)).rpartition(":")[2])
        running.at(("::1", port))


def test_dockers_healthcheck(nerve: StartNerve, web: Callable[..., Container]) -> None:
    found = web("--health-cmd", "test -e /tmp/well", "--health-interval", "1s", "--health-retries", "1", *PUBLISHED)
    with nerve(found.name, kind="docker", settings={"checks[0].rise": 1, "checks[0].fall": 1}) as running:
        until("a verdict", lambda: any("HEALTHCHECK" in line for line in running.lines()), LIMIT, running.daemon)
        assert running.nodes() == []
        found.execute("touch", "/tmp/well")
        running.at(published(found))
        found.execute("rm", "/tmp/well")
        running.at()


def test_a_port_that_is_not_published_is_named_with_those_that_are(
    nerve: StartNerve, web: Callable[..., Container]
) -> None:
    found = web("--publish", "127.0.0.1::9000")
    with nerve(found.name) as running:
        place = f"127.0.0.1:{found.port(9000)}"
        said = f"container {found.name}: does not publish port {PORT}; published: 9000/tcp at {place}; start it with -p"
        until("a word", lambda: said in running.daemon.output, LIMIT, running.daemon)


def test_the_engine_is_restarted(
    nerve: StartNerve, web: Callable[..., Container], engine: Engine, figures: Figures
) -> None:
    if not engine.ours:
        pytest.skip(f"the engine at {engine.host} is not these tests' own: it is not restarted")
    found = web(*PUBLISHED)
    with nerve(found.name) as running:
        running.at(published(found))
        engine.stop()
        running.at()
        engine.start()
        found.start()
        began = time.time()
        running.at(published(found))
        figures("the engine and the container are back -> registered", f"{(time.time() - began) * 1e3:.0f} ms")
        until("word of it", lambda: "works again" in running.daemon.output, LIMIT, running.daemon)


def told(container: Container, action: str, since: float) -> float:
    """When the engine told of this, in seconds of the clock."""
    lines = container.engine.docker(
        *("events", "--since", f"{since:.6f}", "--until", f"{time.time() + 0.5:.6f}", "--format", "{{json .}}"),
        *("--filter", f"container={container.name}", "--filter", f"event={action}"),
    )
    return float(json.loads(lines.splitlines()[0])["timeNano"]) / 1e9
