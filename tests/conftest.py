"""Real servers as fixtures: each ended by its pid when the last test that uses it is over."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.docker import engine as docker_engine
from tests.servers.aws import AwsServer
from tests.servers.haproxy import PACKAGES, HaproxyBinary, binaries
from tests.servers.mariadb import MariaDBServer
from tests.servers.missing import missing
from tests.servers.origin import Origin
from tests.servers.zookeeper import ZooKeeperServer


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    # make passes on what `timeout` has sent already: a second signal must not interrupt the cleaning up.
    signal.signal(signal.SIGTERM, lambda *_: None)
    raise KeyboardInterrupt


# The time that an example takes is no matter of the test: it is another one on a busy machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure() -> None:
    # `timeout` and a CI's cancel send SIGTERM: as for Ctrl-C, the fixtures must end their servers.
    signal.signal(signal.SIGTERM, _interrupt)


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """A ZooKeeper shared by all tests: do not stop it, use paths of your own."""
    with ZooKeeperServer(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


StartZooKeeper = Callable[..., ZooKeeperServer]


@pytest.fixture
def start_zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartZooKeeper]:
    """Starts a ZooKeeper of the test's own, which it may stop and kill: `start_zookeeper(tick=…, settings={…})`."""
    with ExitStack() as stack:

        def start(
            *,
            port: int | None = None,
            tick: int = 250,
            settings: Mapping[str, str] | None = None,
            properties: Mapping[str, str] | None = None,
        ) -> ZooKeeperServer:
            directory = tmp_path_factory.mktemp("zookeeper")
            return stack.enter_context(
                ZooKeeperServer(directory, port=port, tick=tick, settings=settings, properties=properties)
            )

        yield start


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDBServer]:
    """A MariaDB shared by all tests, with the user `haproxy_check`: who stops it starts it again."""
    with MariaDBServer(tmp_path_factory.mktemp("mariadb")) as server:
        server.create_user("haproxy_check")
        yield server


@pytest.fixture(scope="session")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    """EC2 and S3 as moto plays them, shared by all tests: use names of your own."""
    with AwsServer(tmp_path_factory.mktemp("aws")) as server:
        yield server


@pytest.fixture(params=binaries() or (None,), ids=str)
def haproxy(request: pytest.FixtureRequest) -> HaproxyBinary:
    """Each HAProxy of this machine in turn."""
    if not isinstance(request.param, HaproxyBinary):
        missing("HAProxy", PACKAGES)
    return request.param


@pytest.fixture
def start_origin(tmp_path: Path) -> Iterator[Callable[[str], Origin]]:
    """Starts an HTTP server of that name: `start_origin("blue")`."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(Origin(tmp_path, name))


@pytest.fixture(scope="session")
def engine() -> Iterator[docker_engine.Engine]:
    """A Docker engine shared by all tests: restart it only if it is `ours`, give containers names of your own."""
    with docker_engine.running() as engine:
        yield engine
