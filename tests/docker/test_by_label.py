"""nerve --docker as a program beside a real engine: what labels ask for is registered, and what is wrong is named."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dockstack.admin.client import NoAnswer, ask
from dockstack.admin.report import Report
from tests.docker.alive import QUICK
from tests.docker.engine import Engine, base
from tests.docker.yard import Container, Yard
from tests.e2e.programs import Daemon, dockstack, until

LIMIT = 20.0
SERVER = (
    "$SIG{TERM} = sub { exit }; for (@ARGV) { next if fork; "
    "my $s = IO::Socket::INET->new(LocalPort => $_, Listen => 9, ReuseAddr => 1) or die $!; "
    "while (my $c = $s->accept) { close $c } } sleep 1 while 1"
)
COMMAND = ("perl", "-MIO::Socket::INET", "-e", SERVER, "80", "81")
BOTH = ("--publish", "80", "--publish", "81")

Registered = list[tuple[str, int, Any, Any]]


class Nerve:
    """The daemon, with a directory as registry."""

    def __init__(self, home: Path, engine: Engine) -> None:
        self.home = home
        self.engine = engine
        self.daemon: Daemon
        (home / "templates").mkdir()
        self.template(QUICK)

    def template(self, text: str) -> None:
        (self.home / "templates" / "quick.yaml").write_text(text)

    @contextmanager
    def running(self, *options: str) -> Iterator[Daemon]:
        words = ("-d", f"file://{self.home}/registry", "--docker", "--templates", f"{self.home}/templates")
        environment = {"DOCKER_HOST": self.engine.host, "SERVICE_HOST": "127.0.0.1"}
        paths = ("--run-dir", f"{self.home}/run", "--state-dir", f"{self.home}/state")
        with dockstack(self.home / "log", "nerve", *words, *paths, *options, **environment) as self.daemon:
            yield self.daemon

    def registered(self) -> Registered:
        """Path, port, weight and labels of each registration, in order."""
        found = []
        for file in (self.home / "registry").rglob("nerve_*"):
            try:
                node = json.loads(file.read_bytes())
            except FileNotFoundError:
                continue
            path = f"/{file.parent.relative_to(self.home / 'registry')}"
            found.append((path, node["port"], node.get("weight"), node.get("labels")))
        return sorted(found, key=repr)

    def until(self, wanted: Callable[[], Registered]) -> None:
        until(f"{wanted()}", lambda: self.registered() == wanted(), LIMIT, self.daemon)

    def says(self, text: str) -> None:
        until(repr(text), lambda: text in self.daemon.output, LIMIT, self.daemon)

    def asks(self, question: Any) -> Report:
        try:
            return ask(self.home / "run" / "nerve.sock", question)
        except NoAnswer as error:
            return Report(False, (str(error),))


@pytest.fixture
def nerve(engine: Engine) -> Iterator[Nerve]:
    home = Path(tempfile.mkdtemp(prefix="dsl-"))  # a Unix socket's path has a limit
    yield Nerve(home, engine)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def labelled(engine: Engine, yard: Yard) -> Callable[..., Container]:
    """Starts a container that serves on 80 and 81: `labelled("a", "--env", "SERVICE_NAME=a", web={"port": 80})`."""
    image = base(engine)

    def start(short: str, *options: str, **services: dict[str, object]) -> Container:
        words = [
            f"--label=dockstack.{name}.{key}={text}" for name, keys in services.items() for key, text in keys.items()
        ]
        return yard.run(short, image, COMMAND, (*words, *BOTH, *options))

    return start


def test_labels_are_services_while_their_containers_run(
    nerve: Nerve, labelled: Callable[..., Container], yard: Yard
) -> None:
    web = labelled(
        "web",
        web={"port": 80, "check": "quick", "weight": 7, "labels.zone": "b"},
        admin={"port": 81, "path": "/deep/admin", "check": "quick", "check.rise": 2},
    )
    bad = labelled("bad", web={"prot": 80})
    labelled("off", "--label=dockstack.enable=false", web={"port": 80})
    named = yard.run("named", base(nerve.engine), COMMAND, BOTH)
    with nerve.running("-s", f"typed:quick:{named.name}:80:/typed") as daemon:
        nerve.says(
            f"the container {bad.name} is skipped: label dockstack.web.prot: unknown; did you mean dockstack.web.p"
        )
        typed: Registered = [("/typed", named.port(80), None, None)]
        of_web: Registered = [("/deep/admin", web.port(81), None, None)]

        def both() -> Registered:
            return sorted([*of_web, *typed, ("/web", web.port(80), 7, {"zone": "b"})], key=repr)

        nerve.until(both)
        assert nerve.asks("ready").ok
        before = {file.name for file in (nerve.home / "registry").rglob("nerve_*")}

        second = labelled("second", web={"port": 80, "check": "quick"})
        nerve.until(lambda: sorted([*both(), ("/web", second.port(80), None, None)], key=repr))
        assert before <= {file.name for file in (nerve.home / "registry").rglob("nerve_*")}
        assert nerve.asks("ready").ok

        second.stop()
        nerve.until(both)
        nerve.engine.docker("pause", web.name)
        nerve.until(lambda: typed)
        nerve.engine.docker("unpause", web.name)
        nerve.until(both)
        web.restart()
        of_web[0] = ("/deep/admin", web.port(81), None, None)
        nerve.until(both)
        nerve.engine.docker("rm", "--force", web.name)
        nerve.until(lambda: typed)
        assert daemon.output.count("is skipped") == 1
        assert daemon.terminate() < 5
    assert nerve.registered() == []
    assert "Traceback" not in nerve.daemon.output


def test_registrators_names(nerve: Nerve, labelled: Callable[..., Container]) -> None:
    (nerve.home / "templates" / "tcp.yaml").write_text(QUICK)
    one = labelled(
        "one", "--env", "SERVICE_80_NAME=shop", "--env", "SERVICE_TAGS=blue,new", "--env", "SERVICE_81_IGNORE=1"
    )
    labelled("two", "--label=SERVICE_NAME=no", "--label=SERVICE_IGNORE=true")
    with nerve.running():
        nerve.until(lambda: [("/shop", one.port(80), None, {"blue": "true", "new": "true"})])


def test_a_signal_reads_the_templates_again(nerve: Nerve, labelled: Callable[..., Container]) -> None:
    one = labelled("one", web={"port": 80, "check": "quick"})
    with nerve.running() as daemon:
        nerve.until(lambda: [("/web", one.port(80), None, None)])
        nerve.template("checks: [")
        daemon.process.send_signal(signal.SIGHUP)
        nerve.says(f"stays: container {one.name}: label dockstack.web.check: {nerve.home}/templates/quick.yaml:2:1: ")
        nerve.template(f"{QUICK}weight: 3\n")
        daemon.process.send_signal(signal.SIGHUP)
        nerve.until(lambda: [("/web", one.port(80), 3, None)])
        assert "is withdrawn" not in daemon.output


def test_the_engine_is_waited_for(nerve: Nerve) -> None:
    nerve.engine = Engine(f"unix://{nerve.home}/none.sock")
    with nerve.running():
        nerve.says("failed")
        report = nerve.asks("ready")
        assert report.lines[-1] == "labels: the Docker engine has not answered yet"
        assert not report.ok
        assert nerve.asks("health").ok
