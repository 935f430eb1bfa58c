"""Asks a running daemon how it is. Blocking, without asyncio: a container's health check starts it again and again."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Literal

from dockstack.admin.report import Report
from dockstack.errors import DockStackError

Question = Literal["health", "ready"]


class NoAnswer(DockStackError):
    """No daemon answers on the socket."""


def ask(path: Path, question: Question, timeout: float = 5.0) -> Report:
    """The daemon's report; raises NoAnswer within `timeout` seconds when there is none. Blocks the calling thread."""
    end = time.monotonic() + timeout
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(f"GET /{question} HTTP/1.1\r\nHost: dockstack\r\n\r\n".encode())
            while block := connection.recv(65536):
                answer += block
                connection.settimeout(max(0.001, end - time.monotonic()))
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        role = path.stem
        what = f"start dockstack {role}, or name its directory with --run-dir"
        if isinstance(error, PermissionError):
            what = f"ask as root or as the user that dockstack {role} runs as"
        elif isinstance(error, TimeoutError):
            what = f"it may be stopped or overloaded: look at the log of dockstack {role}"
        raise NoAnswer(f"no daemon answers on {path}: {reason}; {what}") from error
    head, found, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if not found or len(words) < 2 or words[1] not in (b"200", b"503"):
        raise NoAnswer(f"what answers on {path} is no dockstack daemon, or stopped in the middle of its answer")
    return Report(words[1] == b"200", tuple(body.decode(errors="replace").splitlines()))
