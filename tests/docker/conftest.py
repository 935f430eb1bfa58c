"""The engine's fixtures: the project's image, the servers' images, and a yard for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.docker.engine import Engine, base
from tests.docker.images import ROOT, SERVERS, build
from tests.docker.yard import Yard


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The project's image, by the classic builder."""
    base(engine)
    return build(engine, ROOT, "dockstack:test")


@pytest.fixture(scope="session")
def server_image(engine: Engine) -> Callable[[str], str]:
    """The image of a server that the tests stand on, built when it is asked for: `server_image("mariadb")`."""
    base(engine)
    return lambda name: build(engine, SERVERS, f"dockstack-test-{name}", "--file", str(SERVERS / f"{name}.Dockerfile"))


@pytest.fixture
def yard(engine: Engine) -> Iterator[Yard]:
    """Where the test's own containers and networks are."""
    with Yard(engine) as own:
        yield own
