"""Names whose lookup hangs, fails or is shared, with the system's own lookup in the hands of the test."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dockstack.model import Address
from dockstack.nerve.events import Down
from dockstack.nerve.judge import Rule
from dockstack.nerve.names import Names
from dockstack.nerve.probe import Probe, ask
from tests.nerve.test_roster import nerve, services
from tests.waiting import eventually


class Silent:
    """DNS that does not answer for `*.silent.test` until it is released."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    dns, real = Silent(), socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **keys: Any) -> Any:
        if str(host).endswith(".silent.test"):
            dns.asked.append(host)
            dns.released.wait(20)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments, **keys)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield dns
    dns.released.set()


async def test_names_that_hang_hold_no_other_up(silent: Silent) -> None:
    names = Names()
    hanging = [asyncio.ensure_future(names.look_up(f"{number}.silent.test")) for number in range(40)]
    await eventually(lambda: len(silent.asked) == 40, "all are asked for")
    await names.look_up("localhost")
    assert not any(task.done() for task in hanging)
    silent.released.set()
    assert all(isinstance(error, OSError) for error in await asyncio.gather(*hanging, return_exceptions=True))


async def test_one_lookup_of_a_name_is_under_way_whoever_gives_up(silent: Silent) -> None:
    names = Names()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await names.look_up("a.silent.test")
    assert silent.asked == ["a.silent.test"]
    silent.released.set()
    with pytest.raises(OSError, match="not known"):
        await names.look_up("a.silent.test")
    with pytest.raises(OSError, match="not known"):
        await names.look_up("a.silent.test")


async def test_services_at_one_name_share_its_lookup(silent: Silent) -> None:
    at: Any = {"host": "a.silent.test", "checks": [{"type": "tcp", "timeout": 0.05}]}
    async with nerve() as running:
        running.roster.change(services(**{f"web{number}": at for number in range(20)}))
        await eventually(lambda: len(running.said(Down)) == 20, "all are down")
        assert silent.asked == ["a.silent.test"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_not_looked_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    await Names().look_up(host)


async def test_what_can_be_no_name_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="is no host name"):
        await Names().look_up("a" * 70 + ".test")


async def test_only_a_check_that_connects_waits_for_its_name(silent: Silent) -> None:
    async def well(target: Address) -> None:
        pass

    probe = Probe("c", well, Address("a.silent.test", 80), 0.1, Rule(), connects=True)
    assert not (await ask(probe, Names())).healthy
    assert (await ask(Probe("c", well, probe.target, 0.1, Rule()), Names())).healthy
