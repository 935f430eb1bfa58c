"""One HAProxy worker as this program knows it: a connection to it, and a model of its servers that is kept true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from dockstack.errors import HaproxyUnavailable
from dockstack.model import patched
from dockstack.synapse.haproxy.commands import commands
from dockstack.synapse.haproxy.effects import after, loaded
from dockstack.synapse.haproxy.model import Document, Running, Step, capabilities
from dockstack.synapse.haproxy.render import mark
from dockstack.synapse.haproxy.runtime import Identity, Runtime, connect
from dockstack.synapse.haproxy.state import differences, observe, parse_servers_state, parse_sessions

LIMIT = 5.0
"""Seconds for a batch of commands, and for a read-back."""

PER_STEP = 0.01
"""Seconds more for each step of a batch: an addition to a large backend takes a millisecond or two."""

_AGAIN = 0.01
"""Seconds between two tries to reach a worker."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A step that HAProxy did not carry out, and its words."""

    step: Step
    line: str
    reply: str

    def __str__(self) -> str:
        return f"HAProxy refused `{self.line}`: {self.reply or 'empty answer'}"


Believe = Callable[[Identity], Running]
"""What a worker is believed to run, before its servers are read back."""


class Link:
    """A worker behind a socket. `running` is what it runs, as far as is known."""

    def __init__(self, path: Path, runtime: Runtime, identity: Identity, running: Running) -> None:
        self.path = path
        self.identity = identity
        self.running = running
        self._runtime = runtime

    @property
    def closed(self) -> bool:
        """Whether the worker, or the connection to it, is gone."""
        return self._runtime.closed

    def close(self) -> None:
        """Lets go of the worker."""
        self._runtime.close()

    async def wait_closed(self) -> None:
        """Returns when the connection is gone."""
        await self._runtime.wait_closed()

    async def ask(self, lines: Sequence[str]) -> list[str]:
        """The replies to lines that change nothing. Raises HaproxyUnavailable."""
        return await self._runtime.ask(lines, LIMIT)

    async def carry_out(self, steps: Sequence[Step]) -> tuple[Refused, ...]:
        """Sends the steps, keeps the model true, and returns those that were refused.

        Raises HaproxyUnavailable when it is not known what was done: the link is closed then.
        """
        batch = [(step, one) for step in steps for one in commands(step, self.running.capabilities)]
        refusals = await self._runtime.execute([one for _, one in batch], LIMIT + PER_STEP * len(steps))
        refused: dict[int, Refused] = {}
        for refusal in refusals:
            step = batch[refusal.index][0]
            refused.setdefault(id(step), Refused(step, refusal.line, refusal.reply))
        self.running = after(self.running, [step for step in steps if id(step) not in refused])
        return tuple(refused.values())

    async def reread(self, backends: Iterable[str], static: Mapping[str, frozenset[str]]) -> None:
        """Makes the model of these backends true; a backend that is not there leaves it. Raises HaproxyUnavailable."""
        for backend in backends:
            try:
                states = await self._runtime.servers(LIMIT, backend)
            except HaproxyUnavailable:
                if self.closed:
                    raise
                left = {name: one for name, one in self.running.backends.items() if name != backend}
                self.running = replace(self.running, backends=MappingProxyType(left))
                continue
            one = {name: value for name, value in self.running.backends.items() if name == backend}
            seen = observe(
                replace(self.running, backends=MappingProxyType(one)), {backend: {}, **states}, static
            ).backends
            self.running = replace(self.running, backends=patched(self.running.backends, seen))

    async def sessions(self, backends: Sequence[str]) -> Mapping[tuple[str, str], int]:
        """Open sessions by backend and server. Raises HaproxyUnavailable."""
        tables = await self._runtime.ask([f"show servers state {name}" for name in backends], LIMIT)
        try:
            states = [parse_servers_state(table).get(name, {}) for name, table in zip(backends, tables, strict=True)]
        except ValueError as error:
            raise HaproxyUnavailable(f"`show servers state` on {self.path}: {error}") from None
        numbers = {
            name: next(iter(found.values())).backend_id for name, found in zip(backends, states, strict=True) if found
        }
        # By number: by name `show stat` finds the frontend, where a frontend and a backend have the same.
        texts = await self._runtime.ask([f"show stat {number} 4 -1" for number in numbers.values()], LIMIT)
        counts: dict[tuple[str, str], int] = {}
        for name, text in zip(numbers, texts, strict=True):
            counts |= {(name, server): count for server, count in parse_sessions(text).items()}
        return counts

    async def audit(self, static: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
        """Reads all servers back; the model is true then. Returns the names of those that were not as believed.

        Raises HaproxyUnavailable.
        """
        before = self.running
        self.running = observe(before, await self._runtime.servers(LIMIT * 2), static)
        return differences(before, self.running)


def from_document(document: Document, wanted: str) -> Believe:
    """A worker with this mark runs the document; of another one it is not known what it has loaded."""

    def believe(identity: Identity) -> Running:
        known = loaded(document, capabilities(identity.version))
        return known if identity.mark == wanted else replace(known, loaded=None)

    return believe


def from_file(document: Document | None) -> Believe:
    """A worker with the mark of the file on disk runs that; None: there is no such file, and nothing is known."""
    if document is None:
        return lambda identity: Running(capabilities(identity.version))
    return from_document(document, mark(document))


async def open_link(path: Path, believe: Believe, static: Mapping[str, frozenset[str]], limit: float) -> Link:
    """A link to the worker that answers on the socket now. Raises HaproxyUnavailable within about `limit` seconds."""
    runtime = await connect(path, limit)
    try:
        identity = await runtime.identity(limit)
        link = Link(path, runtime, identity, believe(identity))
        await link.audit(static)
    except BaseException:
        runtime.close()
        raise
    return link


async def await_link(
    path: Path, believe: Believe, static: Mapping[str, frozenset[str]], limit: float, retired: int | None = None
) -> Link:
    """A link to a worker that is not being retired and is not the one with the process id `retired`, once there is one.

    Each try is a new connection: an old one stays with the old worker. Raises HaproxyUnavailable after `limit` seconds.
    """
    why = f"no new worker answers on {path}"
    try:
        async with asyncio.timeout(limit):
            while True:
                try:
                    link = await open_link(path, believe, static, limit)
                    if not link.identity.stopping and link.identity.pid != retired:
                        return link
                    link.close()
                except HaproxyUnavailable as error:
                    why = str(error)
                await asyncio.sleep(_AGAIN)
    except TimeoutError:
        raise HaproxyUnavailable(f"{why}; waited {limit:g} s") from None


async def serving_pid(path: Path, limit: float) -> int | None:
    """The process id of the worker that takes new connections on the socket, or None when none answers."""
    with suppress(HaproxyUnavailable):
        runtime = await connect(path, limit)
        try:
            return (await runtime.identity(limit)).pid
        finally:
            runtime.close()
    return None
