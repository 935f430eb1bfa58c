"""Follows one Docker engine for ever: a stream of events for speed, lists for the truth. GET requests only.

One aiodocker object for each connection, because its event stream does not come back by itself. On each connection the
events are subscribed to first and the containers listed afterwards, so nothing is missed in between.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.docker.address import own_id
from dockstack.docker.containers import (
    Container,
    Picture,
    container_of,
    ends,
    fingerprint,
    marked,
    occurrence,
    picture,
    refreshed,
)
from dockstack.errors import ConfigurationError, EngineUnavailable, Problem
from dockstack.events import Emit, Note, Warn, said_once
from dockstack.runtime import loops
from dockstack.runtime.latest import Latest
from dockstack.runtime.refused import reason
from dockstack.runtime.scope import servants

if TYPE_CHECKING:
    from aiodocker import Docker
    from aiohttp import ClientResponse

USUAL_HOST = "unix:///var/run/docker.sock"
"""Where an engine is when DOCKER_HOST does not say."""

ANSWER = 10.0
"""Seconds that an engine has for one answer."""

_RELIST = 60.0  # seconds between two lists where there are events: what was lost is right again then
_SOON = 1.0  # the first of them after a connection: an engine opens the stream a moment before it records events for it
_POLL = 5.0  # seconds between two lists where the events may not be read
_AT_ONCE = 8  # containers that are asked for at the same time
_GRACE = 0.5  # seconds after a stop timeout within which the end of a container is still told
_LONGEST_PAUSE = 2.0  # seconds between two tries to reach an engine
_FORBIDDEN = frozenset({403, 404, 405, 501})


async def follow(
    host: str,
    pictures: Latest[Picture],
    emit: Emit,
    *,
    relist: float = _RELIST,
    poll: float = _POLL,
) -> None:
    """Keeps `pictures` equal to the engine at `host` (unix:///PATH, tcp://HOST:PORT) until it is cancelled.

    A picture is put when it is complete, and again when anything in it has changed. While the engine cannot be asked
    nothing is put and the last picture stands. `relist` and `poll`: seconds between two lists, with and without events.
    """
    what = f"following the Docker engine at {host}"
    opened = loops.follow(
        what, lambda: _pictures(host, emit, relist, poll), (EngineUnavailable,), said_once(emit), _LONGEST_PAUSE
    )
    async for now in opened:
        if now != pictures.peek():
            pictures.put(now)


async def _pictures(host: str, emit: Emit, relist: float, poll: float) -> AsyncIterator[Picture]:
    try:
        async with _connected(host) as docker, _events(host, docker) as events, servants() as tasks:
            view = _View(host, docker, emit)
            if events is None:
                emit(Warn(f"the Docker engine at {host} does not let its events be read; it is asked every {poll:g} s"))
            else:
                tasks.create_task(view.read(events))
            await view.begin()
            emit(Note(f"follows the Docker engine at {host}"))
            for _ in range(_AT_ONCE):
                tasks.create_task(view.keep_asking())
            tasks.create_task(view.keep_believing())
            pause = poll if events is None else relist
            tasks.create_task(view.keep_listing(min(_SOON, pause), pause))
            async for now in view.newest:
                yield now
    except* EngineUnavailable as group:
        raise _first(group) from None


class _View:
    """What one connection has told so far. An event counts at once; what is asked afterwards puts it right."""

    def __init__(self, host: str, docker: Docker, emit: Emit) -> None:
        self.newest: Latest[Picture] = Latest()
        self._host = host
        self._docker = docker
        self._emit = emit
        self._containers: dict[str, Container] = {}
        self._prints: dict[str, str] = {}  # of the last list
        self._heard: dict[str, int] = {}  # events of each container: an answer from before the last one is too old
        self._due: dict[str, None] = {}  # to be asked for, in order
        self._work = asyncio.Semaphore(0)
        self._ending: dict[str, float] = {}  # until when a signal is believed to end its container, by the loop's time
        self._ends = asyncio.Event()
        self._complete = False
        self._faulty: dict[str, str] = {}

    async def begin(self) -> None:
        """Lists and asks for all containers; from then on there are pictures. Raises EngineUnavailable."""
        await self._list()
        limit = asyncio.Semaphore(_AT_ONCE)

        async def ask(one: str) -> None:
            async with limit:
                await self._ask(one)

        async with asyncio.TaskGroup() as group:
            for one in self._take_all():
                group.create_task(ask(one))
        self._complete = True
        self._publish()

    async def read(self, events: ClientResponse) -> None:
        """Takes in events until the engine ends the stream, which is raised as EngineUnavailable."""
        while True:
            with _told(self._host):
                line = await events.content.readline()
                happened = occurrence(json.loads(line)) if line.strip() else None
            if not line:
                raise EngineUnavailable(f"{self._host}: the engine ended the stream of its events")
            if happened is None:
                continue
            one = happened.container
            self._heard[one] = self._heard.get(one, 0) + 1
            before = self._containers.get(one)
            if before is not None:
                self._containers[one] = marked(before, happened)
                if ends(before, happened):
                    self._ending[one] = asyncio.get_running_loop().time() + before.stop_timeout + _GRACE
                    self._ends.set()
                self._publish()
            self._ask_soon(one)

    async def keep_asking(self) -> None:
        """Asks for what is due, one container after the other; several of these run at the same time."""
        while True:
            await self._work.acquire()
            if self._due:
                one = next(iter(self._due))
                del self._due[one]
                await self._ask(one)
                self._publish()

    async def keep_listing(self, first: float, pause: float) -> None:
        """Looks after `first` and then every `pause` seconds for what no event has told."""
        async for _ in loops.beats(pause, first):
            await self._list()

    async def keep_believing(self) -> None:
        """Asks again for a container that a signal should have ended, and that goes on after its stop timeout."""
        clock = asyncio.get_running_loop().time
        while True:
            self._ends.clear()
            wait = min(self._ending.values()) - clock() if self._ending else None
            try:
                async with asyncio.timeout(wait if wait is None else max(0.0, wait)):
                    await self._ends.wait()
            except TimeoutError:
                for one in [one for one, end in self._ending.items() if end <= clock()]:
                    del self._ending[one]
                    self._ask_soon(one)

    async def _list(self) -> None:
        async with _asked(self._host):
            entries = await self._docker.containers.list(all=1)
            prints = {entry["Id"]: fingerprint(entry._container) for entry in entries}
        before, self._prints = self._prints, prints
        for one in (*prints, *(self._containers.keys() - prints.keys())):
            if before.get(one) != prints.get(one) or one not in self._containers:
                self._ask_soon(one)

    async def _ask(self, one: str) -> None:
        from aiodocker import DockerError

        heard = self._heard.get(one, 0)
        try:
            async with _asked(self._host):
                answer = await self._docker.containers.container(one).show()
            now = container_of(answer)
        except EngineUnavailable as error:
            cause = error.__context__
            if not isinstance(cause, DockerError) or cause.status not in (404, 500):
                raise
            self._forget(one, None if cause.status == 404 else str(error))
            return
        except ValueError as error:
            self._forget(one, str(error))
            return
        if heard == self._heard.get(one, 0):
            self._containers[one] = refreshed(self._containers.get(one), now, one in self._ending)
            self._faulty.pop(one, None)
            if not self._containers[one].stopping:
                self._ending.pop(one, None)

    def _ask_soon(self, one: str) -> None:
        self._due[one] = None
        self._work.release()

    def _take_all(self) -> tuple[str, ...]:
        due = tuple(self._due)
        self._due.clear()
        return due

    def _forget(self, one: str, fault: str | None) -> None:
        gone = self._containers.pop(one, None)
        self._ending.pop(one, None)
        if fault is None:
            self._heard.pop(one, None)
            self._faulty.pop(one, None)
        elif self._faulty.get(one) != fault:
            self._faulty[one] = fault
            self._emit(Warn(f"the container {gone.name if gone else one[:12]} is skipped: {fault}"))

    def _publish(self) -> None:
        if self._complete:
            self.newest.put(picture(self._containers.values()))


def load() -> None:
    """Imports the client, which takes a while; who has no time for that when an engine is followed does it before."""
    import aiodocker  # noqa: F401


def named(environment: Mapping[str, str]) -> str:
    """The engine that DOCKER_HOST names, else the usual one. Raises ConfigurationError where it names none."""
    host = environment.get("DOCKER_HOST") or USUAL_HOST
    if (fault := host_fault(host)) is not None:
        raise ConfigurationError(Problem("DOCKER_HOST", fault))
    return host


def own_container() -> str | None:
    """The id of the container that this process is in; None outside of one."""
    try:
        return own_id(Path("/proc/self/mountinfo").read_text())
    except OSError:
        return None


def host_fault(host: str) -> str | None:
    """What is wrong with the text of a DOCKER_HOST, or None."""
    scheme, found, rest = host.partition("://")
    if not found or scheme not in ("unix", "tcp", "http", "https") or not rest:
        return f"{host!r} is not the address of a Docker engine: unix:///PATH or tcp://HOST:PORT is meant"
    if scheme == "unix" and not rest.startswith("/"):
        return f"{host!r} has no absolute path: unix:///var/run/docker.sock has three slashes"
    return None


@asynccontextmanager
async def _connected(host: str) -> AsyncIterator[Docker]:
    from aiodocker import Docker
    from aiohttp import ClientTimeout

    with _told(host):  # the certificates that DOCKER_CERT_PATH names may be missing
        docker = Docker(url=host, timeout=ClientTimeout(total=ANSWER, sock_connect=ANSWER))
    try:
        yield docker
    finally:
        await docker.close()


@asynccontextmanager
async def _events(host: str, docker: Docker) -> AsyncIterator[ClientResponse | None]:
    """The stream, open: the engine has begun to answer. None where the engine, or a proxy before it, refuses it."""
    from aiodocker import DockerError
    from aiohttp import ClientTimeout

    filters = json.dumps({"type": ["container", "network"]})
    # Not DockerEvents: it does not tell when the stream is open, and what happens before that is lost.
    query = docker._query("events", params={"filters": filters}, timeout=ClientTimeout(sock_connect=ANSWER))
    try:
        async with _asked(host):
            response = await query.__aenter__()
    except EngineUnavailable as error:
        if not isinstance(error.__cause__, DockerError) or error.__cause__.status not in _FORBIDDEN:
            raise
        response = None
    try:
        yield response
    finally:
        if response is not None:
            response.close()


@asynccontextmanager
async def _asked(host: str) -> AsyncIterator[None]:
    with _told(host):
        async with asyncio.timeout(ANSWER):
            yield


@contextmanager
def _told(host: str) -> Iterator[None]:
    """Whatever goes wrong in talking to the engine as EngineUnavailable, with its cause."""
    from aiodocker import DockerError
    from aiohttp import ClientError

    try:
        yield
    except TimeoutError as error:
        raise EngineUnavailable(f"{host}: no answer within {ANSWER:g} s") from error
    except DockerError as error:
        cause = error.__context__
        text = reason(cause) if isinstance(cause, OSError) else error.message
        raise EngineUnavailable(_words(host, text, error.status)) from error
    except OSError as error:
        raise EngineUnavailable(_words(host, reason(error), 0)) from error
    except ClientError as error:
        raise EngineUnavailable(_words(host, str(error) or type(error).__name__, 0)) from error
    except (ValueError, TypeError, KeyError) as error:  # what the library makes of an answer that is no engine's
        raise EngineUnavailable(f"{host}: this is not how a Docker engine answers: {error!r}") from error


def _words(host: str, text: str, status: int) -> str:
    said = f"{host}: {text.strip()}" if host not in text else text.strip()
    if "Permission denied" in text:
        return f"{said}; this user must be in the group of the socket (docker run --group-add)"
    return f"{said} (403: a proxy must allow GET on containers)" if status == 403 else said


def _first(group: BaseExceptionGroup[EngineUnavailable]) -> EngineUnavailable:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
