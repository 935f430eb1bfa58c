"""What every benchmark begins with: its arguments, a directory of its own, and an end that ends everything."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dockstack.synapse.haproxy.binary import find
from tests.servers.haproxy import binaries


@contextmanager
def stage() -> Iterator[Path]:
    """A temporary directory. SIGTERM ends the benchmark as Ctrl-C does, so that what it started is ended too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="dockstack-bench-") as scratch:
            yield Path(scratch)
    finally:
        signal.signal(signal.SIGTERM, before)


def haproxy(given: Path | None = None) -> Path:
    """The HAProxy to measure with: the given one, else the one that synapse would run."""
    return asyncio.run(find(given)).path


def haproxies(given: Path | None = None) -> Sequence[Path]:
    """The given one alone, else one of each version that is here, oldest first."""
    return (given,) if given is not None else tuple(one.path for one in binaries())


def arguments(what: str | None, rounds: int | None = None) -> argparse.Namespace:
    """`--haproxy`, and `--rounds` where the benchmark has some."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--haproxy", type=Path, help="which HAProxy; default: the one that synapse would run")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds)
    return parser.parse_args()


def say(text: str) -> None:
    """Progress, beside the tables."""
    print(f"  {text}", file=sys.stderr, flush=True)
