"""The examples as walk-throughs on a real engine: two networks as hosts, a registry, a server, both roles, a client."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml
from kazoo.client import KazooClient

from tests.docker.compose import EXAMPLES, Example, Substitute
from tests.docker.conftest import Figures
from tests.docker.engine import Engine
from tests.docker.yard import RESIDENT, Container, Yard, milliseconds, resident

pytestmark = pytest.mark.timeout(600)

SERVED = 60.0  # seconds: a check's rise and a server's start are in it


@dataclass(frozen=True)
class Walk:
    """An example with everything started but its client, which waits in a container of its own."""

    example: Example
    registry: Container
    server: Container
    nerve: Container
    synapse: Container
    client: Container
    query: tuple[str, ...]

    def answer(self) -> subprocess.CompletedProcess[str]:
        """What the client's command prints now."""
        return self.client.engine.attempt("exec", self.client.name, *self.query)

    def served(self, text: str) -> float:
        """When the client's command first printed this, in seconds of the clock."""
        try:
            self.client.until(lambda: text in self.answer().stdout, f"{text!r} for the client", SERVED)
        except TimeoutError as error:
            error.add_note(f"{self.answer()}\n{self.nerve.logs()[-3000:]}\n{self.synapse.logs()[-3000:]}")
            raise
        return time.time()


StartWalk = Callable[..., Walk]


@pytest.fixture
def example(yard: Yard, image: str, server_image: Callable[[str], str]) -> Callable[[str], Example]:
    """Reads an example into the yard: `example("mysql")`."""

    def substitute(name: str) -> Substitute:
        match name.partition(":")[0]:
            case "dockstack":
                return Substitute(image)
            case "python":
                return Substitute(image, ("--entrypoint", "", "--no-healthcheck"))
            case "dockstack-example-etcd":
                return Substitute(server_image("etcd"))
            case known:
                return Substitute(server_image(known))

    return lambda name: Example(yard, name, substitute)


@pytest.fixture
def walk(example: Callable[[str], Example]) -> StartWalk:
    """Starts an example: `walk("mysql", "zookeeper", "mysql")`, with the names of its registry and its server."""

    def start(name: str, registry: str, server: str, *others: str) -> Walk:
        found = example(name)
        seen_from_outside = ("--publish", "127.0.0.1::2181") if registry == "zookeeper" else ()
        started = {registry: found.start(registry, *seen_from_outside)}
        started |= {one: found.start(one) for one in (server, *others, "nerve", "synapse")}
        client = found.waiting("client")
        return Walk(
            found,
            started[registry],
            started[server],
            started["nerve"],
            started["synapse"],
            client,
            found.command("client"),
        )

    return start


class Observer:
    """Follows the children of a znode from outside, with the time of each change."""

    def __init__(self, client: KazooClient, path: str) -> None:
        self.seen: list[tuple[float, tuple[str, ...]]] = []
        client.ChildrenWatch(path)(self._note)

    def _note(self, children: list[str]) -> None:
        self.seen.append((time.time(), tuple(children)))

    def emptied(self, since: float) -> float | None:
        """When there was nobody any more, after `since`; None: there was somebody at all times."""
        return next((at for at, children in self.seen if at >= since and not children), None)


@contextlib.contextmanager
def observer(zookeeper: Container, path: str) -> Iterator[Observer]:
    client = KazooClient(hosts=f"127.0.0.1:{zookeeper.port(2181)}", timeout=20)
    client.start(20)
    try:
        yield Observer(client, path)
    finally:
        client.stop()
        client.close()


def event(container: Container, action: str, since: float) -> float:
    """When the engine told this of the container, after `since`: seconds of the clock."""
    engine, until = container.engine, f"{time.time() + 1:.3f}"
    words = ("--since", f"{since:.3f}", "--until", until, "--format", "{{json .}}")
    told = engine.docker("events", *words, "--filter", f"container={container.name}", "--filter", f"event={action}")
    return float(json.loads(told.splitlines()[0])["timeNano"]) / 1e9


def test_mysql_over_two_hosts(walk: StartWalk, figures: Figures) -> None:
    found = walk("mysql", "zookeeper", "mysql")
    found.served("served by")
    assert "served by" in found.example.once("client"), "a client of its own, linked to the ambassador as `db`"
    for role in (found.nerve, found.synapse):
        size = resident(role, "dockstack")
        figures(f"{role.name.rpartition('-')[2]} with ZooKeeper: resident", f"{size:.0f} MB")
        assert size <= RESIDENT

    with observer(found.registry, "/nerve/test") as seen:
        before, began = found.server.port(3306), time.time()
        found.server.restart()
        served = found.served("served by")
        assert found.server.port(3306) != before
        figures("MariaDB restarted, another port: start -> served", since(found.server, "start", began, served))

        began = time.time()
        found.server.stop()
        found.nerve.until(lambda: seen.emptied(began) is not None, "the withdrawal")
        withdrawn = (seen.emptied(began) or 0.0) - event(found.server, "kill", began)
        figures("MariaDB stopped: kill -> withdrawn", milliseconds(withdrawn))
        assert withdrawn <= 0.2

        began = time.time()
        found.server.start()
        served = found.served("served by")
        figures("MariaDB started: start -> served", since(found.server, "start", began, served))


def test_an_engine_that_is_restarted(walk: StartWalk, engine: Engine, figures: Figures) -> None:
    if not engine.ours:
        pytest.skip(f"the engine at {engine.host} is not these tests' own: it is not restarted")
    found = walk("mysql", "zookeeper", "mysql")
    found.served("served by")
    before = found.server.port(3306)
    engine.stop()
    engine.start()
    began = time.time()
    found.client.start()
    served = found.served("served by")
    assert found.server.port(3306) != before
    figures("the engine is back -> served", milliseconds(served - began))


def since(container: Container, action: str, began: float, end: float) -> str:
    """From the engine's event, which came after `began`, to `end`."""
    return milliseconds(end - event(container, action, began))


WALKS = {
    "http": ("zookeeper", "web", "engine"),
    "http-etcd": ("etcd", "web"),
    "rabbitmq": ("zookeeper", "rabbitmq"),
}
ANSWERS = {"http": "Hello from behind", "http-etcd": "Hello from behind", "rabbitmq": "there and back"}


@pytest.mark.parametrize("name", WALKS)
def test_a_server_with_another_port_is_found_again(walk: StartWalk, name: str, figures: Figures) -> None:
    found, answer = walk(name, *WALKS[name]), ANSWERS[name]
    found.served(answer)
    assert answer in found.example.once("client")

    began, before = time.time(), published(found.server)
    found.server.restart()
    served = found.served(answer)
    assert published(found.server) != before
    figures(f"{name}: restarted, another port: start -> served", since(found.server, "start", began, served))

    found.server.stop()
    found.client.until(lambda: found.answer().returncode != 0, "no answer without a server")


def published(container: Container) -> str:
    return container.engine.docker("port", container.name)


QUESTIONS = {
    "GET /_ping": 200,
    "GET /version": 200,
    "GET /v1.41/containers/json?all=1": 200,
    "GET /containers/nobody-of-that-name/json": 404,
    "POST /containers/create": 403,
    "POST /containers/nobody-of-that-name/kill": 403,
    "DELETE /containers/nobody-of-that-name": 403,
    "POST /_ping": 403,
    "GET /info": 403,
    "GET /images/json": 403,
    "GET /containers/nobody-of-that-name/logs": 403,
    "GET /containers/nobody-of-that-name/archive?path=/etc": 403,
    "GET /containers/json/../../images/json": 403,
    "GET /containers/nobody%2F..%2F..%2Fimages/json": 403,
}

_ASK = """
import http.client, sys
method, path = sys.argv[1].split()
connection = http.client.HTTPConnection('127.0.0.1', 2375, timeout=10)
connection.request(method, path)
print(connection.getresponse().status)
"""


def test_the_proxy_before_the_socket_lets_only_questions_through(example: Callable[[str], Example]) -> None:
    proxy = example("http").start("engine")
    proxy.until(lambda: _asked(proxy, "GET /_ping") == 200, "the proxy")
    assert {question: _asked(proxy, question) for question in QUESTIONS} == QUESTIONS


def _asked(proxy: Container, question: str) -> int | None:
    done = proxy.engine.attempt("exec", proxy.name, "python3", "-c", _ASK, question)
    return int(done.stdout) if done.returncode == 0 else None


EVERY = sorted(path.parent.name for path in EXAMPLES.glob("*/compose.yaml"))


def test_each_example_is_walked_through() -> None:
    assert set(EVERY) == {"mysql", *WALKS}
    page = (EXAMPLES.parent / "docs" / "image.md").read_text()
    assert [name for name in EVERY if f"examples/{name}/compose.yaml" not in page] == []


def test_the_readme_shows_what_is_walked_through() -> None:
    services = yaml.safe_load((EXAMPLES / "mysql" / "compose.yaml").read_text())["services"]
    page = (EXAMPLES.parent / "README.md").read_text()
    for role in ("nerve", "synapse"):
        assert f"dockstack {services[role]['command'].replace('zookeeper:2181', 'zk1:2181')}\n" in page
    assert f"--link {services['client']['links'][0]} {services['client']['image']} mariadb --skip-ssl -h db" in page


@pytest.mark.parametrize("name", EVERY)
def test_the_examples_give_dockstack_no_rights(name: str) -> None:
    services = yaml.safe_load((EXAMPLES / name / "compose.yaml").read_text())["services"]
    ours = {key: spec for key, spec in services.items() if spec["image"] == "dockstack" and key != "client"}
    assert {"nerve", "synapse"} <= ours.keys()
    for spec in ours.values():
        assert spec["read_only"]
        assert spec["cap_drop"] == ["ALL"]
        assert spec["security_opt"] == ["no-new-privileges:true"]
    assert not any("docker.sock" in volume for volume in ours["synapse"].get("volumes", []))
