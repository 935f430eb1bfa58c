"""HAProxy's master process over its socket: which processes there are, and the reload.

A command ends with `;quit`, as the master does not close the connection by itself. While the master executes itself
again for a reload (each time on 2.6, now and then up to 3.0) its socket refuses connections: they are tried again.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from dockstack.errors import HaproxyUnavailable

_AGAIN = 0.01
"""Seconds between two tries on a socket that refuses."""

CONTACT = 5.0
"""Seconds for the master to be found before a reload; on 2.6 it is deaf while it loads a large file."""

_ROW = re.compile(r"^(?P<pid>\d+)\s+(?P<kind>\w+)\s+(?P<reloads>\d+)(?:\s+\[failed: (?P<failed>\d+)\])?", re.M)


@dataclass(frozen=True, slots=True)
class Processes:
    """The process tree as `show proc` tells it.

    `reloads` counts the tries since the master's start, `failed` those in a row that were refused up to now.
    `workers` are the serving ones, `retired` the older ones that finish their connections.
    """

    master: int
    reloads: int
    failed: int
    workers: tuple[int, ...]
    retired: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """How a reload went: whether a new worker took over, and HAProxy's own lines where it says some (2.7 and later)."""

    accepted: bool
    lines: tuple[str, ...] = ()


async def ask(socket: Path, command: str, limit: float) -> str:
    """The master's whole answer to one command. Raises HaproxyUnavailable when there is none within `limit` seconds."""
    refused = "no answer"
    try:
        async with asyncio.timeout(limit):
            while True:
                try:
                    reader, writer = await asyncio.open_unix_connection(str(socket))
                except (ConnectionRefusedError, FileNotFoundError, BlockingIOError) as error:
                    refused = error.strerror or str(error)
                    await asyncio.sleep(_AGAIN)
                    continue
                try:
                    writer.write(f"{command};quit\n".encode())
                    return (await reader.read()).decode(errors="replace").strip()
                finally:
                    writer.close()
    except TimeoutError:
        raise HaproxyUnavailable(
            f"HAProxy's master did not answer `{command}` on {socket} within {limit:.1f} s: {refused}"
        ) from None
    except OSError as error:
        raise HaproxyUnavailable(f"HAProxy's master cannot be asked `{command}` on {socket}: {error}") from None


async def processes(socket: Path, limit: float) -> Processes:
    """Master and workers, asked again while the master cuts the answer short to execute itself.

    Raises HaproxyUnavailable when there is no answer to `show proc` within `limit` seconds.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    while True:
        try:
            return parse_processes(await ask(socket, "show proc", max(0.0, end - loop.time())))
        except HaproxyUnavailable:
            if loop.time() + _AGAIN >= end:
                raise
        await asyncio.sleep(_AGAIN)


async def reload(socket: Path, limit: float) -> Reloaded:
    """Has the master load its file in a new worker; the old worker goes on serving when the file is refused.

    The answer tells from 2.7 on; 2.6 answers nothing at once, and its count of reloads and failures is watched.
    A reload whose count does not move within `limit` seconds raises HaproxyUnavailable, as does a silent master, and
    sooner one that is not there at all.
    """
    before = await processes(socket, min(limit, CONTACT))
    answer = await ask(socket, "reload", limit)
    if answer.startswith("Success="):
        verdict, _, rest = answer.partition("\n")
        return Reloaded(verdict == "Success=1", tuple(line for line in rest.splitlines() if line and line != "--"))
    try:
        async with asyncio.timeout(limit):
            while True:
                now = await processes(socket, limit)
                if now.reloads != before.reloads or now.master != before.master:
                    return Reloaded(now.failed == 0)
                await asyncio.sleep(_AGAIN)
    except TimeoutError:
        raise HaproxyUnavailable(
            f"HAProxy's master took the reload on {socket} and did nothing for {limit:.1f} s"
        ) from None


def parse_processes(text: str) -> Processes:
    """`show proc` as a value. Raises HaproxyUnavailable when there is no master in the text."""
    current, _, retired = text.partition("# old workers")
    rows = list(_ROW.finditer(current))
    master = next((row for row in rows if row["kind"] == "master"), None)
    if master is None:
        raise HaproxyUnavailable(f"`show proc` was answered {text[:80]!r}")
    return Processes(
        master=int(master["pid"]),
        reloads=int(master["reloads"]),
        failed=int(master["failed"] or 0),
        workers=tuple(int(row["pid"]) for row in rows if row["kind"] == "worker"),
        retired=tuple(int(row["pid"]) for row in _ROW.finditer(retired) if row["kind"] == "worker"),
    )
