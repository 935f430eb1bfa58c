"""Watchers and outputs that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dockstack.errors import ConfigurationError, Problem
from dockstack.events import Event
from dockstack.model import Instance
from dockstack.registry import Snapshot
from dockstack.runtime.latest import Latest
from dockstack.settings.discovery import PluginDiscovery
from dockstack.synapse import guests
from dockstack.synapse.guests import GuestOutput, GuestWatcher, fit
from dockstack.synapse.haproxy.document import Picture
from tests.synapse.watchers.following import Followed, Sessions
from tests.waiting import eventually

GOOD = Instance("10.0.0.1", 80, "a", 7, 3, "backup", '{"z":1,"a":true}')
SETTINGS = PluginDiscovery.model_validate({"method": "acme"})


@pytest.mark.parametrize(
    "bad",
    [
        Instance("a b", 80),
        Instance("h", 99999),
        Instance("h", 80, "a\nb"),
        Instance("h", 80, haproxy_server_options="a\nb"),
        Instance("h", 80, labels="no JSON"),
        Instance("h", 80, labels="[]"),
        Instance(None, 80),  # type: ignore[arg-type]
        Instance("h", 80, id="7"),  # type: ignore[arg-type]
        Instance("h", 80, id=True),
        "h:80",
    ],
)
def test_an_instance_that_nothing_can_be_made_of_is_left_out_by_name(bad: Any) -> None:
    found = fit(Snapshot((bad, GOOD), b"{}", ("mine",)), "the watcher")
    assert (found.instances, found.data, found.problems[0]) == ((GOOD,), b"{}", "mine")
    assert found.problems[1].startswith(f"the watcher: {bad!r} is left out: ")


class Fails:
    """Yields one snapshot, and then does what it must not do."""

    def __init__(self, then: Callable[[], Any]) -> None:
        self.begun = 0
        self.ended = 0
        self._then = then

    async def follow(self) -> AsyncIterator[Snapshot]:
        self.begun += 1
        try:
            yield Snapshot((GOOD,))
            yield self._then()
        finally:
            self.ended += 1


def raises(error: BaseException) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (raises(KeyError("x")), "'x'"),
        (raises(OSError("away")), "away"),
        (raises(SystemExit(3)), "it wanted to exit: 3"),
        (raises(asyncio.CancelledError()), "something that it waited for was cancelled"),
        (lambda: [GOOD], "which is no snapshot"),
        (lambda: Snapshot((GOOD,), "{}"), "whose data are str, and not bytes"),  # type: ignore[arg-type]
        (lambda: Snapshot(5), "not iterable"),  # type: ignore[arg-type]
    ],
)
async def test_a_watcher_that_fails_is_begun_again(then: Callable[[], Any], told: str) -> None:
    watcher, followed = Fails(then), Followed()
    async with followed.following(GuestWatcher("the watcher of web", watcher, followed.said.append)):
        await eventually(lambda: watcher.begun > 2, "it is begun again")
        assert watcher.ended >= watcher.begun - 1
    assert followed.has_said("the watcher of web failed: ")
    assert followed.has_said(told)
    assert set(followed.seen) == {Snapshot((GOOD,))}


class Deaf:
    """A watcher, and an output, that take a cancellation for nothing."""

    ready = serving = True
    trouble = ()

    async def follow(self) -> AsyncIterator[Snapshot]:
        while True:
            yield Snapshot((GOOD,))
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)

    async def run(self, pictures: Latest[Picture]) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)

    async def close(self) -> None:
        """Nothing to end."""


async def read(watcher: GuestWatcher) -> None:
    async for _ in watcher.follow():
        pass


async def test_who_keeps_a_cancellation_to_himself_is_ended_all_the_same() -> None:
    watcher, output = GuestWatcher("web", Deaf(), lambda _: None), GuestOutput("web", Deaf(), lambda _: None)
    tasks = {asyncio.create_task(read(watcher)), asyncio.create_task(output.run(Latest()))}
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=5)
    assert all(task.cancelled() for task in tasks)


class Broken:
    """An output that fails so many times, and is then ready."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.left = failures
        self.error = error
        self.ready = False
        self.closed = False

    @property
    def serving(self) -> bool:
        if self.left:
            raise KeyError("serving")
        return True

    @property
    def trouble(self) -> tuple[str, ...]:
        if self.left:
            raise KeyError("trouble")
        return ("mine",)

    async def run(self, pictures: Latest[Picture]) -> None:
        if self.left:
            self.left -= 1
            if self.error is not None:
                raise self.error
            return
        self.ready = True
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True
        raise KeyError("close")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("bad"), "bad"),
        (SystemExit(3), "it wanted to exit: 3"),
        (asyncio.CancelledError(), "something that it waited for was cancelled"),
        (None, "it has ended by itself"),
    ],
)
async def test_an_output_that_fails_is_begun_again(error: BaseException | None, told: str) -> None:
    said: list[str] = []
    broken = Broken(3, error)
    guest = GuestOutput("acme", broken, lambda event: said.append(str(event)))
    assert (guest.ready, guest.serving, guest.trouble) == (False, False, ("the output acme does not tell how it is",))
    task = asyncio.create_task(guest.run(Latest()))
    await eventually(lambda: broken.left < 3, "the first failure")
    await eventually(lambda: guest.ready, "it runs")
    assert len(said) == 3
    assert all(text.startswith(f"the output acme failed: {told}; trying again") for text in said)
    assert (guest.serving, guest.trouble) == (True, ("mine",))
    task.cancel()
    await asyncio.wait((task,))
    await guest.close()
    assert broken.closed
    assert "could not be closed: KeyError('close')" in said[-1]


async def test_what_an_output_failed_of_is_told_until_it_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken(10**6, ValueError("bad"))
    guest = GuestOutput("acme", broken, lambda event: None)
    task = asyncio.create_task(guest.run(Latest()))
    await eventually(lambda: any("begun again: bad" in one for one in guest.trouble), "the complaint")
    assert not guest.serving
    task.cancel()
    await asyncio.wait((task,))


async def test_an_output_has_so_long_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Broken):
        async def close(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(guests, "CLOSING", 0.05)
    said: list[Event] = []
    async with asyncio.timeout(5):
        await GuestOutput("acme", Slow(0), said.append).close()
    assert "TimeoutError" in str(said[0])


def test_what_cannot_be_built_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    def refuses(*_: Any) -> None:
        raise ConfigurationError(Problem("acme", "needs a place"))

    def breaks(*_: Any) -> None:
        raise KeyError("place")

    with pytest.raises(ConfigurationError, match=r"^acme: needs a place$"):
        guests.watcher(refuses, SETTINGS, Sessions(), "services.web.discovery.method", print)
    with pytest.raises(ConfigurationError, match=r"web.discovery.method: the plug-in refuses .* KeyError\('place'\)"):
        guests.watcher(breaks, SETTINGS, Sessions(), "services.web.discovery.method", print)
    with pytest.raises(ConfigurationError, match="acme: the plug-in refuses"):
        guests.output(breaks, "acme", None, tmp_path, print)


def test_an_output_gets_its_section(tmp_path: Path) -> None:
    got: list[Any] = []

    def build(*all_: Any) -> Broken:
        got.append(all_)
        return Broken(0)

    guests.output(build, "acme", None, tmp_path, print)
    guests.output(build, "acme", {"x": 1}, tmp_path, print)
    assert got == [({}, tmp_path, print), ({"x": 1}, tmp_path, print)]
