"""What one test has in the engine: containers and networks with names of its own, which are gone when it is over."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from tests.docker.engine import NAMES, Engine
from tests.waiting import wait_until

RESIDENT = 60.0
"""Megabytes that a role may have, beside HAProxy, when there is nothing to do."""


class Container:
    """A container that was started. All calls block."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    def inspect(self) -> dict[str, Any]:
        (found,) = json.loads(self.engine.docker("inspect", self.name))
        assert isinstance(found, dict)
        return found

    def logs(self) -> str:
        """Both outputs, each line with the engine's time before it."""
        done = self.engine.attempt("logs", "--timestamps", self.name)
        return done.stdout + done.stderr

    def said(self, text: str) -> float | None:
        """When a line with this text came first, in seconds of the clock; None: not yet."""
        times = [line.split(" ", 1)[0] for line in self.logs().splitlines() if text in line]
        return min(map(seconds, times)) if times else None

    def wait_for(self, text: str, limit: float = 30.0) -> float:
        """When a line with this text came; raises with the whole log when none did within `limit` seconds."""
        self.until(lambda: self.said(text) is not None, f"{text!r} in the log of {self.name}", limit)
        found = self.said(text)
        assert found is not None
        return found

    def until(self, condition: Callable[[], bool], what: str, limit: float = 30.0) -> None:
        """Waits for the condition; raises with the whole log when it does not come within `limit` seconds."""
        try:
            wait_until(condition, what, limit, pause=0.05)
        except TimeoutError as error:
            error.add_note(self.logs()[-6000:])
            raise

    def execute(self, *words: str) -> str:
        """What the command prints inside; AssertionError when it fails."""
        return self.engine.docker("exec", self.name, *words)

    def port(self, inside: int) -> int:
        """The published port, on IPv4."""
        found = self.engine.docker("port", self.name, str(inside)).splitlines()
        return int(next(line for line in found if not line.startswith("[")).rpartition(":")[2])

    def address(self, network: str) -> str:
        """Its address in that network."""
        return str(self.inspect()["NetworkSettings"]["Networks"][network]["IPAddress"])

    def stop(self, limit: int = 20) -> float:
        """`docker stop`: the seconds that it took. `limit`: when the engine kills it."""
        began = time.monotonic()
        self.engine.docker("stop", "--time", str(limit), self.name)
        return time.monotonic() - began

    def start(self) -> None:
        self.engine.docker("start", self.name)

    def restart(self) -> None:
        self.engine.docker("restart", self.name)

    def status(self) -> int:
        """Its exit status, once it has ended."""
        return int(self.engine.docker("wait", self.name))


class Yard:
    """Containers, networks and volumes under one prefix."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.prefix = f"{NAMES}{secrets.token_hex(4)}"
        self._containers: list[str] = []
        self._networks: list[str] = []
        self._volumes: list[str] = []

    def name(self, short: str) -> str:
        """The name that a thing of this test has in the engine."""
        return f"{self.prefix}-{short}"

    def run(
        self,
        short: str,
        image: str,
        command: Sequence[str] = (),
        options: Sequence[str] = (),
        networks: Sequence[tuple[str, str]] = (),
    ) -> Container:
        """`docker run -d OPTIONS IMAGE COMMAND` as container PREFIX-SHORT; on further networks by the names given."""
        name = self.name(short)
        self._containers.append(name)
        if not networks:
            self.engine.docker("run", "--detach", "--name", name, *options, image, *command)
            return Container(self.engine, name)
        self.engine.docker("create", "--name", name, *options, image, *command)
        for network, alias in networks:
            self.engine.docker("network", "connect", "--alias", alias, network, name)
        self.engine.docker("start", name)
        return Container(self.engine, name)

    def once(self, image: str, command: Sequence[str] = (), options: Sequence[str] = (), limit: float = 60) -> str:
        """What `docker run --rm OPTIONS IMAGE COMMAND` prints; AssertionError when it fails."""
        return self.engine.docker("run", "--rm", *options, image, *command, limit=limit)

    def network(self, short: str, *options: str) -> str:
        """Makes a bridge network; returns its name."""
        name = self.name(short)
        self._networks.append(name)
        self.engine.docker("network", "create", *options, name)
        return name

    def volume(self, short: str) -> str:
        """Makes a volume; returns its name."""
        name = self.name(short)
        self._volumes.append(name)
        self.engine.docker("volume", "create", name)
        return name

    def host(self, network: str) -> str:
        """The engine's machine as that network sees it: the address at which its containers find published ports."""
        return self.engine.docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", network)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for what, names in (
            (("rm", "--force", "--volumes"), self._containers[::-1]),
            (("network", "rm"), self._networks),
            (("volume", "rm", "--force"), self._volumes),
        ):
            if names:
                self.engine.attempt(*what, *names)


def seconds(stamp: str) -> float:
    """The engine's time stamp (RFC 3339, nanoseconds) as seconds of the clock."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def milliseconds(span: float) -> str:
    """Seconds, as a table shows them."""
    return f"{span * 1000:,.0f} ms"


def resident(container: Container, program: str) -> float:
    """Megabytes of all processes of that name."""
    found = container.execute("sh", "-c", "grep -hE '^(Name|VmRSS)' /proc/[0-9]*/status").split()
    pairs = zip(found[1::5], found[3::5], strict=True)
    return sum(int(size) for name, size in pairs if program in name) / 1024
