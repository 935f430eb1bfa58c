"""Clients that ask all the time, in a process of their own, and count what fails.

    python -m bench.load PORT NEW KEPT PAUSE

NEW clients open a connection for each request, KEPT ask again on the same one; each waits PAUSE seconds between two
requests. SIGTERM ends it; then it prints its counts as JSON.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

_LIMIT = 5.0
_MOST_TOLD = 10


@dataclass(slots=True)
class Counts:
    """Requests that were made, those that failed (with the first few reasons), and the longest, in seconds."""

    requests: int = 0
    failed: int = 0
    longest: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def failure(self, reason: str) -> None:
        self.failed += 1
        if len(self.reasons) < _MOST_TOLD:
            self.reasons.append(reason)


@contextmanager
def load(port: int, new: int, kept: int, pause: float = 0.005) -> Iterator[Counts]:
    """Runs the clients while the block lasts; the counts are filled in at its end."""
    counts = Counts()
    command = [sys.executable, "-m", "bench.load", str(port), str(new), str(kept), str(pause)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"asking\n":
            raise SystemExit("the load did not start")
        yield counts
        process.terminate()
        for name, value in json.loads(process.communicate(timeout=20)[0]).items():
            setattr(counts, name, value)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=5)


async def _client(port: int, keeps: bool, pause: float, counts: Counts, over: asyncio.Event) -> None:
    closing = b"" if keeps else b"Connection: close\r\n"
    request = b"GET / HTTP/1.1\r\nHost: bench\r\n" + closing + b"\r\n"
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while not over.is_set():
        begun = time.monotonic()
        try:
            async with asyncio.timeout(_LIMIT):
                connection = connection or await asyncio.open_connection("127.0.0.1", port)
                reader, writer = connection
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode().lower().split("\r\n")
                length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
                await reader.readexactly(length)
                if not head.startswith(b"HTTP/1.1 200"):
                    counts.failure(lines[0])
                ends = not keeps or "connection: close" in lines
        except (OSError, EOFError, TimeoutError) as error:
            counts.failure(f"{type(error).__name__}: {error}")
            ends = True
        counts.requests += 1
        counts.longest = max(counts.longest, time.monotonic() - begun)
        if ends and connection is not None:
            connection[1].close()
            connection = None
        await asyncio.sleep(pause)


async def _run(port: int, new: int, kept: int, pause: float) -> Counts:
    counts, over = Counts(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with asyncio.TaskGroup() as group:
        for number in range(new + kept):
            group.create_task(_client(port, number >= new, pause, counts, over))
        print("asking", flush=True)
    return counts


def main() -> None:
    """Asks until SIGTERM."""
    import uvloop

    port, new, kept, pause = sys.argv[1:]
    print(json.dumps(asdict(uvloop.run(_run(int(port), int(new), int(kept), float(pause))))))


if __name__ == "__main__":
    main()
