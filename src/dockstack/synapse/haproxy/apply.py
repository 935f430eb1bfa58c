"""The one writer: makes HAProxy, and its file behind it, equal to the newest picture of what is to be served.

A change goes out by commands at once; what arrives meanwhile is the next change. Only what commands cannot do makes a
reload, which is checked first and limited in its rate. While a reload is under way no command is sent, and afterwards
all is planned anew against the new worker: nothing is lost in between.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress

from dockstack.errors import HaproxyUnavailable
from dockstack.events import Emit, Note, Warn
from dockstack.runtime.latest import Latest
from dockstack.runtime.pace import pauses
from dockstack.synapse.events import HaproxyEnded, Repaired
from dockstack.synapse.haproxy import text
from dockstack.synapse.haproxy.document import Picture, settled, static_names
from dockstack.synapse.haproxy.drafts import Drafts
from dockstack.synapse.haproxy.engine import Engine
from dockstack.synapse.haproxy.file import File
from dockstack.synapse.haproxy.link import Link, from_file
from dockstack.synapse.haproxy.model import Document, Reason
from dockstack.synapse.haproxy.reload import Parts, Policy, Reloader
from dockstack.synapse.haproxy.seat import Seat

_TRY = 0.25
"""Seconds of one try to reach a worker; between two tries the writer looks at everything else."""

_LONG_TRY = 2.0
"""Seconds of one try to reach a worker of ours that has not answered for as long: it may be busy, and have many
servers to tell of."""

_DEAF = 15.0
"""Seconds without any answer after which a HAProxy of ours is started anew."""

_OLD_ENOUGH = 10.0
"""Seconds of life after which a HAProxy that ends is started again without a pause."""

_LAST_WRITE = 2.0
"""Seconds that the last write of the file may take, a check of it included."""

_INSPECT = 30.0
"""Seconds between two looks at the file on disk (jittered to 80-120 %)."""


_DOUBT = 60.0
"""Seconds after somebody else changed the file in which the mark of a new worker that is not ours says nothing."""


class Applier:
    """Applies pictures until it is cancelled. `close` ends HAProxy if it is ours."""

    def __init__(self, policy: Policy, drafts: Drafts, engine: Engine, file: File, emit: Emit) -> None:
        self._policy = policy
        self._drafts = drafts
        self._engine = engine
        self._file = file
        self._emit = emit
        self._seats = tuple(Seat(path, policy.removal, emit) for path in policy.sockets)
        self._reloader = Reloader(Parts(policy, drafts, engine, file, self._seats, emit))
        if policy.guarded:
            file.permit = self._reloader.permits
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup
        self._watched: set[Link] = set()
        self._touched: frozenset[str] = frozenset()
        self._resolved: frozenset[str] = frozenset()
        self._aged: frozenset[str] = frozenset()
        self._found = False
        self._started = 0.0
        self._deaf_since: float | None = None
        self._died: float | None = None
        self._how = ""
        self._start_at = 0.0
        self._starts: Iterator[float] = pauses(5.0, random.random)
        self._inspect_at = 0.0
        self._doubt_until = 0.0
        self._parsed: tuple[str, Document | None] = ("", None)
        self.ready = False

    @property
    def reloads(self) -> int:
        """Reloads that we have made."""
        return self._reloader.count

    @property
    def repaired(self) -> int:
        """Differences between HAProxy and what it was believed to be that were found and put right."""
        return sum(seat.repaired for seat in self._seats)

    @property
    def serving(self) -> bool:
        """Whether HAProxy is there, as far as is known."""
        return self._engine.running and all(seat.link is not None and not seat.link.closed for seat in self._seats)

    @property
    def failing(self) -> bool:
        """Whether HAProxy has ended, or was never started because of its file, and is not there again."""
        return not self.serving and (self._died is not None or bool(self._reloader.complaint))

    @property
    def trouble(self) -> tuple[str, ...]:
        """Why HAProxy does not have all that is wanted, in sentences."""
        why = f": {self._how}; its own words are in the log" if self._died is not None else ""
        found = [] if self._engine.running else [f"HAProxy is not running{why}"]
        found += [f"no HAProxy answers on {seat.path}" for seat in self._seats if seat.link is None]
        found += [f"a reload is due: {reason}" for reason in self._reloader.reasons]
        said = [one for one in (self._reloader.complaint, self._reloader.objection) if one]
        return (*found, *said, *self._file.trouble, *self._drafts.problems)

    def has_applied(self, picture: Picture) -> bool:
        """Whether this picture was taken up and HAProxy has all of it."""
        return self._drafts.picture is picture and not self._touched and self._is_applied()

    def resolved(self, hosts: frozenset[str]) -> None:
        """The addresses of these hosts have changed."""
        self._resolved |= hosts
        self._wake.set()

    def aged(self, services: frozenset[str]) -> None:
        """These services have servers that left so long ago that they are not listed any more."""
        self._aged |= services
        self._wake.set()

    async def run(self, pictures: Latest[Picture]) -> None:
        """Applies each newest picture, for ever; touches nothing before the first."""
        async with asyncio.TaskGroup() as self._tasks:
            await pictures.after(0)
            self._inspect_at = asyncio.get_running_loop().time() + _INSPECT
            self._tasks.create_task(self._listen(pictures))
            if self._policy.writes:
                self._tasks.create_task(self._file.run())
            while True:
                self._wake.clear()
                picture = pictures.peek()
                if picture is not None:
                    self._touched |= self._drafts.take(picture)
                if self._resolved:
                    self._touched |= self._drafts.resolved(self._resolved)
                    self._resolved = frozenset()
                if self._aged:
                    self._touched |= self._drafts.again(self._aged)
                    self._aged = frozenset()
                await self._turn()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._next_due()):
                        await self._wake.wait()

    async def close(self) -> None:
        """The file is brought up to date, and HAProxy is ended if it is ours. Not while `run` is under way."""
        for seat in self._seats:
            seat.drop()
        if self._policy.writes:
            try:
                async with asyncio.timeout(_LAST_WRITE):
                    await self._file.flush()
            except OSError as error:
                self._emit(Warn(f"{self._file.path} could not be written: {error.strerror or 'not in time'}"))
        if not self._found:  # ended before the first picture: a HAProxy of the last run may still be there
            await self._engine.adopt()
        await self._engine.stop()

    async def _listen(self, pictures: Latest[Picture]) -> None:
        async for _ in pictures:
            self._wake.set()

    def _next_due(self) -> float | None:
        if not self._engine.running:
            return self._start_at
        due = [seat.next_due() for seat in self._seats]
        reload = self._reloader.next_due()
        if reload is not None and self._may_reload():
            due.append(reload)
        if self._policy.writes:
            due.append(self._inspect_at)
        return min(due, default=None)

    async def _turn(self) -> None:
        try:
            if not self._engine.running and not await self._start():
                return
            if not self.serving:
                await self._connect()
            await self._apply()
            if self._may_reload():
                await self._reloader.turn(self._tasks, self._wake)
                self._touched |= self._reloader.take_redrafted()
            for seat in self._seats:
                if await seat.look_after(self._drafts.wanted):
                    self._wake.set()
            await self._inspect()
        except HaproxyUnavailable as error:
            self._emit(Warn(str(error)))
            self._wake.set()
        self._watch_links()
        if self._touched:
            self._wake.set()
        elif (not self.ready or self._died is not None) and self._is_applied():
            self._tell_applied()

    def _tell_applied(self) -> None:
        if not self.ready:
            self._emit(Note("HAProxy has all that is wanted" if self._seats else f"{self._file.path} is written"))
        elif self._died is not None:
            seconds = asyncio.get_running_loop().time() - self._died
            self._emit(Note(f"HAProxy has all that is wanted again, after {seconds:.1f} s"))
        self.ready, self._died = True, None

    def _may_reload(self) -> bool:
        return self.serving or not self._engine.managed

    def _is_applied(self) -> bool:
        wishes = self._reloader.reasons if self._policy.reloads else ()
        written = bool(self._seats) or not self._policy.writes or self._file.known
        return self.serving and not wishes and written and all(seat.current for seat in self._seats)

    def _watch_links(self) -> None:
        """The end of a worker, or of the connection to it, is to be noticed at once."""
        for seat in self._seats:
            link = seat.link
            if link is None:
                continue
            if link not in self._watched:
                self._watched.add(link)
                self._tasks.create_task(self._await_loss(link))
            if seat.whole:
                self._wake.set()

    async def _await_loss(self, link: Link) -> None:
        await link.wait_closed()
        self._watched.discard(link)
        self._wake.set()

    # -- a HAProxy of ours: found, started, started again

    async def _start(self) -> bool:
        loop = asyncio.get_running_loop()
        if not self._found:
            self._found = True
            if await self._engine.adopt():
                self._await_answers()
                return True
            if (document := await self._document_on_disk()) is not None:
                self._touched |= self._drafts.recall(document)
        if loop.time() < self._start_at:
            return False
        self._start_at = loop.time() + max(0.05, next(self._starts))
        if not await self._prepare_file():
            return False
        self._doubt_until = 0.0
        await self._engine.start()
        self._await_answers()
        return True

    def _await_answers(self) -> None:
        self._started = self._deaf_since = asyncio.get_running_loop().time()
        for seat in self._seats:
            seat.drop()
        self._tasks.create_task(self._await_end())

    async def _await_end(self) -> None:
        how = await self._engine.ended()
        now = asyncio.get_running_loop().time()
        if now - self._started > _OLD_ENOUGH:
            self._starts = pauses(5.0, random.random)
        self._start_at = now + next(self._starts)
        self._died, self._how = now if self._died is None else self._died, how
        self._emit(HaproxyEnded(how, self._start_at - now))
        self._reloader.interrupt()
        for seat in self._seats:
            seat.drop()
        self._wake.set()

    async def _prepare_file(self) -> bool:
        """Puts what is wanted on disk to start with; else what is there, if HAProxy takes that."""
        if not self._policy.writes:
            return True
        candidate = await self._reloader.check(self._drafts.wanted)
        if candidate.checked.accepted:
            content = self._file.render(candidate.document).text
            self._parsed = (content, candidate.document)
            return await self._reloader.write(content)
        self._reloader.refuse(candidate)
        return await self._file.read() is not None and (await self._engine.check(self._file.path)).accepted

    async def _connect(self) -> None:
        """Links every seat that has none to the worker that answers; what it has loaded follows from its mark."""
        now = asyncio.get_running_loop().time()
        document = None if now < self._doubt_until else await self._document_on_disk()
        deaf_for = 0.0 if self._deaf_since is None else now - self._deaf_since
        limit = _LONG_TRY if self._engine.managed and deaf_for >= _LONG_TRY else _TRY
        for seat in self._seats:
            if await seat.connect(from_file(document), static_names(document, self._drafts.wanted), limit):
                assert seat.link is not None
                self._touched |= self._drafts.learn(seat.link.running)
        deaf = [seat.path for seat in self._seats if seat.link is None]
        if not deaf:
            self._deaf_since = None
            return
        now = asyncio.get_running_loop().time()
        since = self._deaf_since = now if self._deaf_since is None else self._deaf_since
        if not self._engine.managed:
            self._reloader.note({"": [Reason(None, f"no HAProxy answers on {deaf[0]}")]})
        elif now - since > _DEAF:
            self._deaf_since = None
            self._emit(Warn(f"HAProxy does not answer on {deaf[0]} for {_DEAF:g} s: it is started anew"))
            await self._engine.stop()

    async def _document_on_disk(self) -> Document | None:
        content = await self._file.read()
        if self._file.known and content != self._file.text:
            self._file.forget()
        if content is None or content == self._parsed[0]:
            return self._parsed[1] if content else None
        try:
            self._parsed = (content, text.parse(content))
        except ValueError as error:
            self._emit(Warn(f"{self._file.path} is not a file of ours and will be replaced: {error}"))
            self._parsed = (content, None)
        return self._parsed[1]

    # -- changes

    async def _apply(self) -> None:
        touched, self._touched = self._touched, frozenset()
        if not self._seats:
            await self._apply_unseen(touched)
            return
        for seat in self._seats:
            seat.retry_busy()
            seat.pending.update(touched)
        looked: dict[str, list[Reason]] = {}
        for seat in self._seats:
            if seat.link is not None and not seat.current:
                for service, reasons in (await seat.drive(self._drafts.wanted, self._policy.commands)).items():
                    looked.setdefault(service, []).extend(reasons)
        if looked:
            if all(seat.current for seat in self._seats):
                self._drafts.prove(service for service, reasons in looked.items() if not reasons)
            self._reloader.note(looked)
            self._put_file()

    def _put_file(self) -> None:
        """Lets the file follow: it shall equal what runs, with the structure that is loaded.

        Where reloads are not made it holds what is wanted: whoever makes them reads it.
        """
        wanted = self._drafts.wanted
        running = next((seat.link.running for seat in self._seats if seat.link is not None), None)
        if not self._policy.writes:
            return
        if not self._policy.reloads:
            self._file.put(lambda: wanted)
        elif running is not None and running.loaded is not None:
            loaded = running.loaded
            self._file.put(lambda: settled(wanted, loaded, running) if self._reloader.reasons else wanted)

    async def _apply_unseen(self, touched: frozenset[str]) -> None:
        """Without a socket: the file alone, or a reload for each change."""
        wanted = self._drafts.wanted
        if self._policy.reloads and not self.ready and not self._reloader.reasons:
            content = await self._file.read() if self._policy.writes else None
            if content != self._file.render(wanted).text:
                self._reloader.note({"": [Reason(None, "the configuration is another one than the file's")]})
            else:
                await self._reloader.write(content)
        elif self._policy.reloads:
            self._reloader.note(
                {service: [Reason(service or None, "the configuration changes")] for service in touched}
            )
        elif self._policy.writes and not self.ready:
            content = self._file.render(wanted).text
            if not self._policy.guarded or await self._reloader.permits(content):
                await self._reloader.write(content)
        elif self._policy.writes and touched:
            self._file.put(lambda: wanted)

    async def _inspect(self) -> None:
        """Puts the file right when somebody else has changed it. A worker that may have loaded that is not believed."""
        now = asyncio.get_running_loop().time()
        if not self._policy.writes or now < self._inspect_at:
            return
        self._inspect_at = now + _INSPECT * random.uniform(0.8, 1.2)
        if await self._file.intact():
            return
        self._emit(Repaired((str(self._file.path),)))
        self._doubt_until = now + _DOUBT
        self._file.forget()
        for seat in self._seats:
            seat.audit_soon()
        if self._seats:
            self._put_file()
        else:
            wanted = self._drafts.wanted
            self._file.put(lambda: wanted)
