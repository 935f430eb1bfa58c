"""The method `marathon`: the tasks of an application, asked of Marathon's API again and again."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dockstack.errors import ConfigurationError, DockStackError, Problem
from dockstack.events import Emit
from dockstack.model import Instance
from dockstack.registry import Snapshot
from dockstack.registry.codec import NerveDecoder
from dockstack.runtime import loops
from dockstack.runtime.refused import reason
from dockstack.settings.common import TlsSettings
from dockstack.settings.discovery import MarathonDiscovery
from dockstack.settings.marathon import tasks_url
from dockstack.synapse.watchers import Sessions, Watcher

if TYPE_CHECKING:
    from aiohttp import ClientSession

LIMIT = 10.0
"""Seconds that one request may take, redirections to the leader included."""

LARGEST = 64 << 20
"""Bytes that an answer may have."""

SHORTEST = 0.5
"""Seconds between two requests at the least, whatever the settings say."""


class MarathonUnavailable(DockStackError):
    """Marathon could not be asked, or did not answer with a list of tasks. Nothing is known."""


@dataclass(frozen=True, slots=True)
class MarathonWatcher:
    """Asks `url` at once and then each `interval` seconds; the second time after a part of it only, by chance, so that
    hosts that started together spread. `place` is the URL without a password.
    """

    url: str
    place: str
    port_index: int
    interval: float
    tls: ssl.SSLContext | None
    emit: Emit

    async def follow(self) -> AsyncIterator[Snapshot]:
        """Each answer that is another than the one before; a failed request is tried again, with growing pauses."""
        last = None
        slowest = max(self.interval, 1.0)
        what = f"asking Marathon for {self.place}"
        async for snapshot in loops.follow(what, self._reads, (MarathonUnavailable,), self.emit, slowest):
            if snapshot != last:
                last = snapshot
                yield snapshot

    async def _reads(self) -> AsyncIterator[Snapshot]:
        import aiohttp

        pause = self.interval * random.random()
        connector = aiohttp.TCPConnector(limit=1, ssl=self.tls or True)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=LIMIT)) as session:
            while True:
                yield tasks(await self._body(session), self.port_index, self.place)
                await asyncio.sleep(max(SHORTEST, pause))
                pause = self.interval

    async def _body(self, session: ClientSession) -> bytes:
        import aiohttp

        try:
            async with session.get(self.url, headers={"Accept": "application/json"}) as answer:
                if answer.status != 200:
                    raise MarathonUnavailable(f"it answered {answer.status} {answer.reason}".strip())
                body = bytearray()
                async for block in answer.content.iter_chunked(1 << 16):
                    body += block
                    if len(body) > LARGEST:
                        raise MarathonUnavailable(f"its answer has more than {LARGEST >> 20} MB")
                return bytes(body)
        except TimeoutError as error:
            raise MarathonUnavailable(f"no answer within {LIMIT:g} s") from error
        except OSError as error:
            raise MarathonUnavailable(reason(error)) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise MarathonUnavailable(" ".join(str(error).split()) or type(error).__name__) from error


def tasks(body: bytes, port_index: int, place: str) -> Snapshot:
    """The tasks that have started, by host and port; one that cannot be served is named. Pure.

    Raises MarathonUnavailable where the answer is no list of tasks.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MarathonUnavailable(f"its answer is no JSON: {error}") from error
    listed = answer.get("tasks") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise MarathonUnavailable("its answer has no list of tasks")
    instances: list[Instance] = []
    problems: list[str] = []
    for number, task in enumerate(listed):
        try:
            if not isinstance(task, dict):
                raise ValueError("it is no map")
            if task.get("startedAt"):
                instances.append(_instance(task, port_index))
        except ValueError as error:
            name = task.get("id") if isinstance(task, dict) else None
            problems.append(f"{place}: the task {name or number} is left out: {error}")
    instances.sort(key=lambda one: (one.host, int(one.port)))
    return Snapshot(tuple(instances), problems=tuple(sorted(problems)))


def _instance(task: Mapping[str, Any], port_index: int) -> Instance:
    ports = task.get("ports")
    if not isinstance(ports, list) or port_index >= len(ports):
        raise ValueError(f"it has no port with the index {port_index}")
    host = task.get("host")
    return NerveDecoder().from_fields({"host": host, "port": ports[port_index], "name": host}, None)


def build(settings: MarathonDiscovery, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher of an application's tasks. Raises ConfigurationError where the TLS files cannot be read."""
    url = tasks_url(settings.marathon_api_url, settings.marathon_api_path, settings.application_name)
    place = urlsplit(url)
    return MarathonWatcher(
        url=url,
        place=place._replace(netloc=place.netloc.rpartition("@")[2]).geturl(),
        port_index=settings.port_index,
        interval=settings.check_interval,
        tls=None if settings.tls is None else _context(settings.tls),
        emit=emit,
    )


def _context(tls: TlsSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:
        raise ConfigurationError(Problem("discovery marathon: tls", str(error))) from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
