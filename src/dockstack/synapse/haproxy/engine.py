"""Who runs HAProxy and how it is told to reload: we do, as a process of ours, or the user does, with a command."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from dockstack.errors import HaproxyUnavailable
from dockstack.events import Emit, Warn
from dockstack.synapse.haproxy import master, process
from dockstack.synapse.haproxy.binary import Binary
from dockstack.synapse.haproxy.check import Checked, check_file, shell
from dockstack.synapse.haproxy.link import serving_pid
from dockstack.synapse.haproxy.master import Reloaded
from dockstack.synapse.haproxy.process import Place, Process

CHECK = 60.0
"""Seconds that HAProxy, or the user's command, may take to look at a file."""

_ANSWER = 1.0
"""Seconds for the worker of a HAProxy that was found to answer: it may be in the middle of a reload."""

_AGAIN = 0.05

RELOAD = 30.0
"""Seconds that a reload may take: 10,000 servers need one or two."""


class Engine(Protocol):
    """What the writer needs of whoever runs HAProxy."""

    @property
    def managed(self) -> bool:
        """Whether HAProxy is ours to start and to end."""

    @property
    def checks(self) -> bool:
        """Whether a candidate is looked at before it is loaded."""

    @property
    def running(self) -> bool:
        """Whether there is a HAProxy, as far as it can be known without asking."""

    async def adopt(self) -> bool:
        """Takes over a HAProxy that runs already; false when there is none of ours."""

    async def start(self) -> None:
        """Starts HAProxy on the file; returns at once. Raises HaproxyUnavailable. Not where `running` holds."""

    async def ended(self) -> str:
        """How HAProxy ended, when it has."""

    async def check(self, candidate: Path) -> Checked:
        """What HAProxy says about a file."""

    async def reload(self) -> Reloaded:
        """Has HAProxy load its file anew. Raises HaproxyUnavailable."""

    async def stop(self) -> None:
        """Ends HAProxy, if it is ours to end."""


class Managed:
    """HAProxy as our process; `drain`: seconds that its open connections are given at the end."""

    managed = True
    checks = True

    def __init__(self, binary: Binary, place: Place, drain: float, check_command: str | None, emit: Emit) -> None:
        self.place = place
        self._binary = binary
        self._drain = drain
        self._check_command = check_command
        self._emit = emit
        self._process: Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    async def adopt(self) -> bool:
        found = await process.adopt(self.place, self._emit)
        if found is None:
            return False
        if await self._answers():
            self._process = found
            return True
        self._emit(Warn(f"the HAProxy that was found (master {found.pid}) takes no connections: it is ended"))
        await process.stop(found, self.place, 0.0)
        found.close()
        return False

    async def _answers(self) -> bool:
        """Whether a worker answers: one that is being ended has closed its sockets for good."""
        for pause in (0.0, *(_AGAIN for _ in range(int(_ANSWER / _AGAIN)))):
            await asyncio.sleep(pause)
            if await serving_pid(self.place.stats_socket, _ANSWER) is not None:
                return True
        return False

    async def start(self) -> None:
        await process.clear(self.place)
        self._process = process.start(self._binary.path, self.place)

    async def ended(self) -> str:
        if self._process is None:
            return "is not running"
        current = self._process
        await current.gone()
        if self._process is current:
            self._process = None
        current.close()
        return f"(master {current.pid}) {current.status}"

    async def check(self, candidate: Path) -> Checked:
        if self._check_command is not None:
            return await shell(self._check_command, CHECK)
        return await check_file(self._binary.path, candidate, CHECK)

    async def reload(self) -> Reloaded:
        if self._process is not None and not self.place.master_socket.exists():
            await self._make_socket(self._process)
        return await master.reload(self.place.master_socket, RELOAD)

    async def _make_socket(self, haproxy: Process) -> None:
        """Somebody has deleted the master's socket: the master makes it again when it loads its file, which a signal
        has it do as well."""
        self._emit(Warn(f"{self.place.master_socket} is gone: HAProxy (master {haproxy.pid}) is told to make it again"))
        haproxy.signal(signal.SIGUSR2)
        with suppress(TimeoutError):  # the reload that follows says that nobody answers
            async with asyncio.timeout(master.CONTACT):
                while not self.place.master_socket.exists():  # noqa: ASYNC110 - HAProxy sends no event
                    await asyncio.sleep(_AGAIN)

    async def stop(self) -> None:
        if (current := self._process) is not None:
            await process.stop(current, self.place, self._drain)
            current.close()
            if self._process is current:  # whoever waits for its end may have been faster
                self._process = None


class External:
    """Somebody else's HAProxy: never started, never stopped, reloaded by a command of the user's."""

    managed = False
    running = True

    def __init__(self, reload_command: str | None, check_command: str | None) -> None:
        self._reload_command = reload_command
        self._check_command = check_command

    @property
    def checks(self) -> bool:
        return self._check_command is not None

    async def adopt(self) -> bool:
        return True

    async def start(self) -> None:
        raise AssertionError("not ours to start")

    async def ended(self) -> str:
        await asyncio.Event().wait()
        return ""

    async def check(self, candidate: Path) -> Checked:
        return Checked(True) if self._check_command is None else await shell(self._check_command, CHECK)

    async def reload(self) -> Reloaded:
        if self._reload_command is None:
            raise HaproxyUnavailable("there is no reload_command")
        done = await shell(self._reload_command, RELOAD)
        return Reloaded(done.accepted, done.lines)

    async def stop(self) -> None:
        """Nothing: it goes on."""
