"""A worker behind its socket, and the model of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockstack.errors import HaproxyUnavailable
from dockstack.synapse.haproxy.link import await_link, from_file
from tests.servers.haproxy import HaproxyBinary
from tests.synapse.haproxy.running import small, started


async def test_sessions_are_counted_where_there_is_such_a_backend(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    one = small(tmp_path, haproxy.path)
    one.write()
    async with started(one):
        link = await await_link(one.place.stats_socket, from_file(None), {}, 10)
        assert await link.sessions(["b", "empty"]) == {("b", "a"): 0, ("b", "c"): 0}
        with pytest.raises(HaproxyUnavailable, match="Can't find backend"):
            await link.sessions(["b", "gone"])
        assert not link.closed
        link.close()
