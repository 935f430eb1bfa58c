"""The nerve daemon in the test's own event loop, with the services of labels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from dockstack import configure
from dockstack.configure import Given
from dockstack.events import Emit
from dockstack.nerve.daemon import Options, run

QUICK = "check_interval: 0.2\nchecks:\n  - {type: tcp, timeout: 1, rise: 1, fall: 2}\n"
"""The template `quick`, for labels `dockstack.NAME.check=quick`."""


@asynccontextmanager
async def alive(
    home: Path, engine: str, registry: str, emit: Emit, services: Sequence[str] = ()
) -> AsyncIterator[None]:
    """Runs as `nerve -d REGISTRY --docker -s SERVICE …` with DOCKER_HOST=ENGINE while the context is open."""
    (home / "templates").mkdir()
    (home / "templates" / "quick.yaml").write_text(QUICK)
    given = Given(discovery=(registry,), services=tuple(services), templates=(home / "templates",), docker=True)
    env = {"SERVICE_HOST": "127.0.0.1", "DOCKER_HOST": engine}
    settings = configure.nerve(given, "alive", env).settings
    terms = configure.label_terms(given, "alive", env)
    options = Options(home, home, engine=engine, labels=lambda _: terms)
    life = asyncio.create_task(run(settings, options, emit))
    try:
        yield
        assert not life.done(), life.exception()
    finally:
        life.cancel()
        await asyncio.wait({life})
