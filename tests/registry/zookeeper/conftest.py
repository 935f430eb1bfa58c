"""A corner of the shared server for each test, a tapped way to it, and a client that is not ours."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from kazoo.client import KazooClient

from tests.registry.zookeeper.wiretap import Wiretap
from tests.servers.zookeeper import ZooKeeperServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def kazoo(zookeeper: ZooKeeperServer) -> Iterator[KazooClient]:
    """kazoo, connected to the shared server directly."""
    client = KazooClient(zookeeper.hosts, timeout=30)
    client.start(20)
    yield client
    client.stop()
    client.close()


@pytest_asyncio.fixture
async def tap(zookeeper: ZooKeeperServer) -> AsyncIterator[Wiretap]:
    async with Wiretap(zookeeper.port) as tap:
        yield tap


@pytest.fixture
def root() -> str:
    """A chroot of the test's own, which does not exist yet."""
    return f"/unit/{next(_numbers)}"
