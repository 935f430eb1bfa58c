"""The engine's fixtures: the project's image, the servers' images, a yard for each test; what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.docker.engine import PACKAGES, Engine, base
from tests.docker.images import WANTED, buildkit_client
from tests.docker.yard import Yard
from tests.servers.missing import missing

_figures = pytest.StashKey[list[tuple[str, str]]]()

Figures = Callable[[str, str], None]


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> Figures:
    """Notes what was measured, for the table at the end: `figures("docker stop", "120 ms")`."""
    noted = pytestconfig.stash.setdefault(_figures, [])
    return lambda what, value: noted.append((what, value))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if noted := terminalreporter.config.stash.get(_figures, []):
        terminalreporter.section("Docker, as measured")
        for what, value in noted:
            terminalreporter.line(f"{what:58} {value:>10}")


@pytest.fixture(scope="session")
def builds(engine: Engine, request: pytest.FixtureRequest) -> Mapping[str, Future[str]]:
    """The images that the chosen tests want, by what they are called in `WANTED`, built side by side and all done.

    A first run waits for packages more than for anything else; and no build is under way while something is measured.
    """
    base(engine)
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    with ThreadPoolExecutor(max_workers=3) as pool:
        return {
            each.name: pool.submit(each.build, engine)
            for fixture, images in WANTED.items()
            if fixture in asked
            for each in images
        }


@pytest.fixture(scope="session")
def image(builds: Mapping[str, Future[str]]) -> str:
    """The project's image, by the classic builder."""
    return builds["dockstack"].result()


@pytest.fixture(scope="session")
def buildkit_image(builds: Mapping[str, Future[str]]) -> str:
    """The project's image, by BuildKit."""
    if buildkit_client() is None:
        missing("a docker client that drives BuildKit (with buildx)", PACKAGES)
    return builds["dockstack-buildkit"].result()


@pytest.fixture(scope="session")
def server_image(builds: Mapping[str, Future[str]]) -> Callable[[str], str]:
    """The image of a server that the tests stand on: `server_image("mariadb")`."""
    return lambda name: builds[name].result()


@pytest.fixture
def yard(engine: Engine) -> Iterator[Yard]:
    """Where the test's own containers and networks are."""
    with Yard(engine) as own:
        yield own
