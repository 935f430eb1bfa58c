"""An owner to be killed, in a process of its own: python -m tests.registry.file.owner ROOT PATH COUNT"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dockstack.log import to_log
from dockstack.model import Instance
from dockstack.registry import Locator, Registration, open_registry
from tests.servers.program import Program

_ROOT = Path(__file__).resolve().parents[3]
_READY = "ready\n"


class Owner:
    """Registers `count` instances named `owner` under `path`; started when all are written. All calls block."""

    def __init__(self, root: Path, path: str, count: int, log: Path) -> None:
        self._starts = 0
        self._program = Program(
            (sys.executable, "-m", "tests.registry.file.owner", str(root), path, str(count)),
            log,
            {"PYTHONPATH": str(_ROOT)},
        )

    def start(self) -> None:
        self._starts += 1
        self._program.start(lambda: self._program.output().count(_READY) >= self._starts)

    def kill(self) -> None:
        """SIGKILL."""
        self._program.kill()

    def stop(self) -> None:
        """SIGTERM, which kills it too: it has no handler."""
        self._program.stop()


async def main(root: str, path: str, count: int) -> None:
    async with open_registry(Locator("file", root=root), to_log) as registry:
        for number in range(count):
            await registry.put(Registration(str(number), path, Instance("10.0.0.1", 1000 + number, "owner")))
        sys.stdout.write(_READY)
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
