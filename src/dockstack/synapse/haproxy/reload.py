"""What commands cannot do: the candidate is checked, written, loaded by a new worker, and the new worker is found.

The check runs beside the changes, which go on by commands. During the reload itself no command is sent.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dockstack.errors import HaproxyUnavailable
from dockstack.events import Emit, Warn
from dockstack.runtime.files import write_atomically
from dockstack.synapse.events import CandidateRefused, Reloaded
from dockstack.synapse.haproxy.binds import Bind, binds
from dockstack.synapse.haproxy.blame import Blame, blamed, quoted
from dockstack.synapse.haproxy.check import Checked
from dockstack.synapse.haproxy.document import settled, static_names
from dockstack.synapse.haproxy.drafts import Drafts
from dockstack.synapse.haproxy.engine import Engine
from dockstack.synapse.haproxy.file import File
from dockstack.synapse.haproxy.held import obstacles
from dockstack.synapse.haproxy.link import await_link, from_document
from dockstack.synapse.haproxy.model import Document, Reason
from dockstack.synapse.haproxy.pending import Pending
from dockstack.synapse.haproxy.seat import Seat
from dockstack.synapse.haproxy.suspects import Suspect, guilty, suspects, without

_NEW_WORKER = 15.0
"""Seconds for the new worker to answer after a reload."""

_MISSED_AGAIN = 5.0
"""Seconds between two looks at addresses that could not be had."""

_BLAMES = 5
"""Looks at a candidate, each without the servers that the one before found wrong."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the writer may do. `sockets`: Runtime API sockets that all get every command. Times in seconds.

    `removal`: how long a server that left may keep its connections. `guarded`: whoever makes the reloads has the file
    checked by us before it is written.
    """

    writes: bool
    reloads: bool
    commands: bool
    sockets: tuple[Path, ...]
    candidate: Path
    interval: float
    jitter: float
    removal: float = 3600.0
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document, the mark of its structure, and what HAProxy says about it."""

    document: Document
    mark: str
    checked: Checked


@dataclass(frozen=True, slots=True)
class Parts:
    """What the writer works with."""

    policy: Policy
    drafts: Drafts
    engine: Engine
    file: File
    seats: tuple[Seat, ...]
    emit: Emit


class Reloader:
    """Decides when a reload takes place, and carries it out."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._policy = parts.policy
        self._file = parts.file
        self._pending = Pending(parts.policy.interval, parts.policy.jitter, random.random)
        self._checking: asyncio.Task[Candidate] | None = None
        self._switching: asyncio.Task[HaproxyUnavailable | None] | None = None
        self._redrafted: frozenset[str] = frozenset()
        self._left = False
        self._missed_at = 0.0
        self.complaint = ""
        self.objection = ""
        self.count = 0

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why a reload is due."""
        return self._pending.reasons

    def note(self, looked: Mapping[str, Sequence[Reason]]) -> None:
        """The reasons of the services that were looked at; reasons of no service are under ""."""
        self._pending.note(looked)
        if not self._policy.reloads:
            complaint = "; ".join(map(str, self._pending.reasons))
            if complaint and complaint != self.complaint:
                self._parts.emit(Warn(f"HAProxy must be reloaded by hand (do_reloads is off): {complaint}"))
            self.complaint = complaint
        elif not self._pending.reasons:  # what was refused is wanted no more
            self.complaint = ""

    def next_due(self) -> float | None:
        """When `turn` has something to do, on the loop's clock; None: nothing that only the time decides."""
        if not self._policy.reloads or self._checking is not None:
            return None
        due = [self._missed_at] if self._parts.drafts.missed else []
        pending = self._pending.due_at()
        return min(due if pending is None else [*due, pending], default=None)

    def take_redrafted(self) -> frozenset[str]:
        """The services of which servers were left out since the last call: they are to be looked at."""
        redrafted, self._redrafted = self._redrafted, frozenset()
        return redrafted

    def interrupt(self) -> None:
        """HAProxy has ended: a reload that is under way will not come about."""
        if self._switching is not None:
            self._switching.cancel()

    async def turn(self, tasks: asyncio.TaskGroup, wake: asyncio.Event) -> None:
        """Does what is due: begins a check, in a task that sets `wake` at its end, or acts on its verdict.

        Raises HaproxyUnavailable when a reload did not come about; it is due again later, and all seats are let go.
        """
        now = asyncio.get_running_loop().time()
        due = self._pending.due_at()
        if self._checking is None and self._parts.drafts.missed and now >= self._missed_at:
            self._missed_at = now + _MISSED_AGAIN
            missed = self._parts.drafts.missed
            free = missed.keys() - obstacles(missed).keys()
            if free:
                self._redrafted |= self._parts.drafts.retry(free)
                wake.set()
                return  # whether a reload is due for them is to be seen first
        if self._checking is not None:
            if self._checking.done():
                task, self._checking = self._checking, None
                candidate = task.result()
                # HAProxy may have been started anew with all that is wanted meanwhile; and where services were left
                # out it is to be seen first whether a reload is due without them.
                if self._pending.reasons and not self._left:
                    await self._decide(candidate, tasks)
        elif self._policy.reloads and due is not None and due <= now:
            document = self._parts.drafts.wanted
            rendered = self._file.render(document)
            if self._pending.postponed(rendered.mark, now):
                return
            if self._parts.engine.checks:
                self._left = False
                self._checking = tasks.create_task(self.check(document))
                self._checking.add_done_callback(lambda _: wake.set())
            else:
                await self._decide(Candidate(document, rendered.mark, Checked(True)), tasks)

    async def check(self, document: Document) -> Candidate:
        """Has HAProxy look at a document; what it names as wrong, server or service, is left out of what is wanted.

        So are the services whose addresses somebody else holds: HAProxy's check does not look at those.
        """
        document, missing = await self._without_missed(document)
        rendered = self._file.render(document)
        if missing is not None:
            return Candidate(document, rendered.mark, Checked(False, (missing,), by="a look at the addresses"))
        checked = await self._check_text(rendered.text)
        for _ in range(_BLAMES):
            if checked.accepted:
                break
            blame = await self._blame(checked, rendered.text, document)
            if not (blame.servers or blame.services):
                break
            left = self._parts.drafts.refuse(blame.servers) | self._parts.drafts.leave(blame.services)
            self._redrafted |= left
            self._left = self._left or bool(left)
            document = self._parts.drafts.wanted
            rendered = self._file.render(document)
            checked = await self._check_text(rendered.text)
        if checked.accepted:
            self._parts.drafts.trust(document)
        return Candidate(document, rendered.mark, checked)

    async def _without_missed(self, document: Document) -> tuple[Document, str | None]:
        """The document without what wants an address that cannot be had, and what is in the way of all of it, if
        anything is. What the worker has loaded is its own, and is not looked at."""
        if not self._parts.engine.managed:
            return document, None
        drafts = self._parts.drafts
        running = next((seat.link.running for seat in self._parts.seats if seat.link is not None), None)
        has = frozenset[Bind]()
        if running is not None and running.loaded is not None:
            has = frozenset(bind for each in binds(running.loaded).values() for bind in each)
        for _ in range(_BLAMES):
            asked = {name: [one for one in each if one not in has] for name, each in binds(document).items()}
            missed = await asyncio.to_thread(obstacles, asked)
            if "" in missed:
                return document, missed[""]
            left = drafts.leave(missed.items(), binds(document))
            if not left:
                break
            self._missed_at = asyncio.get_running_loop().time() + _MISSED_AGAIN
            self._redrafted |= left
            self._left = True
            document = drafts.wanted
        return document, None

    async def _leave_unbound(
        self, lines: Sequence[str], content: str, document: Document, loaded: Document | None
    ) -> None:
        """Leaves the services whose addresses a new worker could not have, though they looked free: the next reload
        would cut everybody off for its two seconds, too. Where no look finds the address free or held, only new
        settings try it again."""
        drafts = self._parts.drafts
        if loaded is not None:
            drafts.trust(loaded)  # what the check has taken in between cannot stand in
        await self._without_missed(document)
        said = [line for line in lines if "cannot bind" in line]
        blame = blamed(said, content, self._file.path.absolute(), document)
        self._redrafted |= drafts.leave(one for one in blame.services if one[0] not in drafts.missed)

    async def _blame(self, checked: Checked, content: str, document: Document) -> Blame:
        """Who is to be left out. Where HAProxy points at no line it may mean a server that is new to it."""
        blame = blamed(checked.lines, content, self._policy.candidate, document)
        if blame.servers or blame.pointed or not checked.sure:
            return blame

        async def taken_without(servers: Sequence[Suspect]) -> bool:
            return (await self._check_text(self._file.render(without(document, servers)).text)).accepted

        found = await guilty(suspects(document, self._parts.drafts.taken), taken_without)
        words = checked.alerts[0] if checked.alerts else "without a word"
        return Blame(tuple((service, name, words) for service, name in found)) if found else blame

    async def _check_text(self, content: str) -> Checked:
        path = self._policy.candidate
        try:
            await asyncio.to_thread(write_atomically, path, content.encode(), 0o600)
            return await self._parts.engine.check(path)
        except OSError as error:
            return Checked(False, (f"{path} cannot be written: {error.strerror}",), by="the disk", sure=False)
        finally:
            with suppress(OSError):
                path.unlink()

    def refuse(self, candidate: Candidate) -> None:
        """Says that the candidate cannot be loaded; its structure is left alone for a while (`Pending.refused`)."""
        checked = candidate.checked
        self._pending.refused(candidate.mark, asyncio.get_running_loop().time(), checked.sure)
        text = self._file.render(candidate.document).text
        self.complaint = self._told(checked, text, self.complaint)

    async def permits(self, content: str) -> bool:
        """Whether the check takes a text that is to be the file, where others make the reloads; tells what it says."""
        checked = await self._check_text(content)
        self.objection = "" if checked.accepted else self._told(checked, content, self.objection)
        return checked.accepted

    def _told(self, checked: Checked, content: str, before: str) -> str:
        """Why a text is refused, in a sentence; an event of it where the sentence before was another one."""
        lines = quoted(checked.alerts, content, self._policy.candidate)
        complaint = f"{checked.by} refuses the new configuration: {lines[0] if lines else 'without a word'}"
        if complaint != before:
            self._parts.emit(CandidateRefused(checked.by, lines, self._parts.engine.running))
        return complaint

    async def _decide(self, candidate: Candidate, tasks: asyncio.TaskGroup) -> None:
        if not candidate.checked.accepted:
            self.refuse(candidate)
            return
        self._switching = tasks.create_task(self._try_switch(candidate.document))
        try:
            await asyncio.wait((self._switching,))
            ended = HaproxyUnavailable("HAProxy ended during a reload")
            failure = ended if self._switching.cancelled() else self._switching.result()
        finally:
            self._switching = None
        if failure is not None:
            self._pending.failed(asyncio.get_running_loop().time())
            for seat in self._parts.seats:
                seat.drop()
            raise failure

    async def _try_switch(self, document: Document) -> HaproxyUnavailable | None:
        """`_switch` as a task of its own, whose failure is told and does not end the others."""
        try:
            await self._switch(document)
        except HaproxyUnavailable as error:
            return error
        return None

    async def _switch(self, document: Document) -> None:
        """Writes the document, with what has changed since it was checked, and has it loaded by a new worker."""
        begun = time.monotonic()
        seats, drafts = self._parts.seats, self._parts.drafts
        running = next((seat.link.running for seat in seats if seat.link is not None), None)
        if running is not None and document is not drafts.wanted:
            document = settled(drafts.wanted, document, running)
        before = self._file.text or await self._file.read()
        rendered = self._file.render(document)
        if self._policy.writes and not await self.write(rendered.text):
            self._pending.failed(asyncio.get_running_loop().time())
            return
        reloaded = await self._parts.engine.reload()
        if not reloaded.accepted:
            if running is not None and running.loaded is not None:
                before = self._file.render(settled(drafts.wanted, running.loaded, running)).text
            if self._policy.writes and before is not None:
                await self.write(before)
            lines = reloaded.lines or ("its words are in HAProxy's own log, on the standard error",)
            self.refuse(Candidate(document, rendered.mark, Checked(False, lines, by="the reload", sure=False)))
            await self._leave_unbound(lines, rendered.text, document, None if running is None else running.loaded)
            return
        for seat in seats:
            retired = None if seat.link is None else seat.link.identity.pid
            believe = from_document(document, rendered.mark)
            seat.take(await await_link(seat.path, believe, static_names(document), _NEW_WORKER, retired))
        self.count += 1
        self.complaint = ""
        pid = next((seat.link.identity.pid for seat in seats if seat.link is not None), None)
        self._parts.emit(Reloaded(tuple(map(str, self._pending.reasons)), time.monotonic() - begun, pid))
        self._pending.succeeded(asyncio.get_running_loop().time())
        if not seats and drafts.wanted is not document:
            self._pending.note({"": [Reason(None, "servers changed during the reload")]})

    async def write(self, content: str) -> bool:
        """Puts this on disk at once; false, with a warning, where that cannot be done."""
        try:
            await self._file.write(content)
        except OSError as error:
            self._parts.emit(Warn(f"{self._file.path} cannot be written: {error.strerror}"))
            return False
        return True
