"""HAProxy as a benchmark looks at it from outside: its sockets, its worker, its servers, its count of reloads."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dockstack.synapse.haproxy.state import ServerState, parse_servers_state
from tests.waiting import wait_until

_MASTER = re.compile(r"^(\d+)\s+master\s+(\d+)", re.MULTILINE)
_LIMIT = 10.0


def ask(path: Path, line: str) -> str:
    """The answer to one line on a new connection. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_LIMIT)
        connection.connect(str(path))
        connection.sendall(f"{line};quit\n".encode())
        answer = b""
        while block := connection.recv(65536):
            answer += block
    return answer.decode(errors="replace")


def answers(path: Path) -> bool:
    """Whether somebody takes connections there."""
    try:
        return "Pid:" in ask(path, "show info")
    except OSError:
        return False


def worker(stats: Path) -> int:
    """The process id of the worker that takes new connections on its Runtime API socket."""
    found = re.search(r"^Pid: (\d+)", ask(stats, "show info"), re.MULTILINE)
    if found is None:
        raise OSError(f"no process id on {stats}")
    return int(found[1])


def reloads(master: Path) -> int:
    """How often the master has been reloaded, in its own count. A 2.6 in the middle of a reload is asked again."""
    end = time.monotonic() + _LIMIT
    while True:
        try:
            found = _MASTER.search(ask(master, "show proc"))
            if found is not None:
                return int(found[2])
        except OSError:
            pass
        if time.monotonic() > end:
            raise TimeoutError(f"no HAProxy master answers on {master}")
        time.sleep(0.01)


def servers(stats: Path, backend: str) -> Mapping[str, ServerState]:
    """The servers of a backend by name, as the running process has them."""
    return parse_servers_state(ask(stats, f"show servers state {backend}")).get(backend, {})


@contextmanager
def running(binary: Path, config: Path, stats: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A HAProxy on this file, with the Runtime API socket that the file names; killed at the end."""
    with config.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "-W", "-db", "-f", config],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(stats), f"HAProxy on {config}")
        if process.poll() is not None:
            raise SystemExit(config.with_suffix(".log").read_text())
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
