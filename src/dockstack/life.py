"""What a daemon's life has around it: its directories, its lock, its log, its loop."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from dockstack import __version__
from dockstack.errors import Problem

SOCKETS = {"nerve": ("nerve.sock",), "synapse": ("synapse.sock", "haproxy.sock", "haproxy-master.sock")}
"""The sockets of each role in its run directory."""


def named(run_dir: Path | None, state_dir: Path | None) -> tuple[Path, Path]:
    """The run directory and the state directory, absolute, as given or as is usual for this user."""
    from dockstack.runtime.process import default_run_dir, default_state_dir

    run_dir = run_dir or default_run_dir(os.geteuid(), os.environ)
    state_dir = state_dir or default_state_dir(os.geteuid(), os.environ)
    return run_dir.absolute(), state_dir.absolute()


def make_directories(role: str, run_dir: Path, state_dir: Path | None = None) -> None:
    """Makes the daemon's directories, after all that could be refused was looked at."""
    from dockstack.runtime.process import make_private, socket_in

    for name in SOCKETS[role]:
        socket_in(run_dir, name)
    make_private(run_dir, "--run-dir")
    if state_dir is not None:
        make_private(state_dir, "--state-dir")


def live(
    role: str, run_dir: Path, warnings: tuple[Problem, ...], life: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """The daemon from here on: its lock, its log, its loop."""
    import uvloop

    from dockstack.log import Aside, Sparing
    from dockstack.runtime.process import hold_standard_streams, locked, raise_file_limit

    level = logging.DEBUG if os.environ.get("DEBUG") else logging.INFO
    hold_standard_streams()
    aside = Aside(2)
    logging.basicConfig(handlers=[aside], level=level, format="%(asctime)s %(levelname)s %(message)s")
    for library in ("asyncio", "aiobotocore", "botocore"):
        logging.getLogger(library).setLevel(logging.WARNING)
    log = logging.getLogger("dockstack")
    log.addFilter(Sparing())
    raise_file_limit()
    try:
        with locked(run_dir, role):
            log.info("dockstack %s %s, pid %s, run directory %s", role, __version__, os.getpid(), run_dir)
            for warning in warnings:
                log.warning("%s", warning)
            uvloop.run(_with_orphans(life))
    finally:
        aside.finish()


async def _with_orphans(life: Callable[[], Coroutine[Any, Any, None]]) -> None:
    from dockstack.runtime.process import reap_orphans
    from dockstack.runtime.scope import servants

    async with servants() as tasks:
        if os.getpid() == 1:
            tasks.create_task(reap_orphans())
        await life()
