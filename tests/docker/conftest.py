"""The engine's fixtures: the project's image, the servers' images, a yard for each test; what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docker.engine import Engine, base
from tests.docker.images import ROOT, build
from tests.docker.yard import Yard

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
def image(engine: Engine) -> str:
    """The project's image, by the classic builder."""
    base(engine)
    return build(engine, ROOT, "dockstack:test")


@pytest.fixture(scope="session")
def server_image(engine: Engine) -> Callable[[Path], str]:
    """The image of a server that the tests stand on, built when it is asked for by its Dockerfile."""
    base(engine)
    return lambda file: build(engine, file.parent, f"dockstack-test-{file.stem}", "--file", str(file))


@pytest.fixture
def yard(engine: Engine) -> Iterator[Yard]:
    """Where the test's own containers and networks are."""
    with Yard(engine) as own:
        yield own
