"""The least that a program can do for the same change: kazoo's watch, and one write to HAProxy's socket.

    python -m bench.floor HOSTS PATH SOCKET BACKEND

No state beyond the names, no check of a reply, no retry, no file. Prints a line when it watches.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kazoo.client import KazooClient

from bench.synapse import CHECKED


@contextmanager
def running(hosts: str, path: str, control: Path, backend: str) -> Iterator[int]:
    """The script at work on HAProxy's socket `control`; yields its pid."""
    script = subprocess.Popen(
        [sys.executable, "-m", "bench.floor", hosts, path, str(control), backend],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        assert script.stdout is not None
        if script.stdout.readline() != b"watching\n":
            raise SystemExit("the bare script did not start")
        yield script.pid
    finally:
        script.kill()
        script.communicate(timeout=5)


def main() -> None:
    """Runs until it is ended."""
    hosts, path, control, backend = sys.argv[1:]
    haproxy = socket.socket(socket.AF_UNIX)
    haproxy.connect(control)
    haproxy.sendall(b"prompt\nset timeout cli 1h\n")
    threading.Thread(target=lambda: all(iter(lambda: haproxy.recv(65536), b"")), daemon=True).start()
    client = KazooClient(hosts=hosts)
    client.start()
    known: dict[str, str] = {}

    def changed(event: object) -> None:
        names = set(client.get_children(path, watch=changed))
        for name in known.keys() - names:
            haproxy.sendall(f"set server {known.pop(name)} state maint\n".encode())
        for name in names - known.keys():
            told = json.loads(client.get(f"{path}/{name}")[0])
            server = f"{backend}/{told['name']}_{told['host']}:{told['port']}"
            add = f"add server {server} {told['host']}:{told['port']} id {int(name[-10:]) + 1000} {CHECKED}"
            haproxy.sendall(f"{add}\nenable health {server}\nenable server {server}\n".encode())
            known[name] = server

    changed(None)
    print("watching", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
