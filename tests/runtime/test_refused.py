"""What is told of a connection that was not made."""

from __future__ import annotations

import socket

import aiohttp
import pytest
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_reqrep import ConnectionKey

from dockstack.runtime.refused import reason

KEY = ConnectionKey("h", 1, False, True, None, None, None)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (ConnectionResetError(104, ""), "Connection reset by peer"),
        (ConnectionResetError("the server hung up"), "the server hung up"),
        (OSError(113, "Connect call failed ('10.0.0.1', 1)"), "No route to host"),
        (OSError("Multiple exceptions: [Errno 111] …"), "Multiple exceptions: [Errno 111] …"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (FileNotFoundError(2, "No such file or directory", "/x"), "[Errno 2] No such file or directory: '/x'"),
        (OSError(), "OSError"),
        (
            aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "Connect call failed ('h', 1)")),
            "Connection refused",
        ),
        (UnixClientConnectorError("/s", KEY, PermissionError(13, "Permission denied")), "Permission denied"),
    ],
)
def test_the_systems_own_words(error: OSError, words: str) -> None:
    assert reason(error) == words
