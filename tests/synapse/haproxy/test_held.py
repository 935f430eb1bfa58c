from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dockstack.synapse.haproxy.binds import Bind
from dockstack.synapse.haproxy.held import obstacles
from tests.servers.ports import free_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_an_address_that_somebody_holds(taken: int) -> None:
    free = Bind("127.0.0.1", free_port())
    found = obstacles({"a": (free, Bind("127.0.0.1", taken)), "b": (free,), "c": (Bind("0.0.0.0", taken),)})
    assert found == {
        "a": f"127.0.0.1:{taken} cannot be listened on: another program holds it",
        "c": f"0.0.0.0:{taken} cannot be listened on: another program holds it",
    }


def test_an_address_that_this_host_does_not_have() -> None:
    found = obstacles({"a": (Bind("203.0.113.7", 9999),)})
    assert found == {"a": "203.0.113.7:9999 cannot be listened on: this host has no such address"}


def test_an_address_that_a_haproxy_shares_is_free() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert obstacles({"a": (Bind("127.0.0.1", listener.getsockname()[1]),)}) == {}


def test_nothing_is_left_listening(taken: int) -> None:
    port = free_port()
    assert obstacles({"a": (Bind("127.0.0.1", port), Bind("::", port, False))}) == {}
    with socket.socket() as after:
        after.bind(("127.0.0.1", port))
