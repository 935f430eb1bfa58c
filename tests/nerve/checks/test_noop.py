"""The check that asks nobody."""

from __future__ import annotations

from dockstack.nerve.checks.noop import build
from dockstack.nerve.probe import Outcome
from dockstack.settings.nerve import NoopCheck
from tests.nerve.checks.asking import outcome
from tests.servers.ports import free_port


async def test_it_is_up_whatever_is_there() -> None:
    assert await outcome(build, NoopCheck(type="noop"), free_port()) == Outcome("it", True)
