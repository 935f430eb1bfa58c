"""A Docker engine for the tests: the one that answers here, else (as root) one of our own that ends with the tests."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers.missing import missing
from tests.servers.program import Program

PACKAGES = "docker.io iptables iproute2 debootstrap"
BASE = "debian:trixie-slim"
# Short, as the path of a Unix socket has about 100 bytes; kept, as the images in it are what a first run waits for.
STATE = Path(os.environ.get("DOCKSTACK_TEST_DOCKER", "/var/tmp/dockstack-docker"))
NAMES = "dockstack-test-"
"""What the names of all containers and networks of the tests begin with."""
_USUAL = "unix:///var/run/docker.sock"
_HERE = Path(__file__).parent


class Engine:
    """An engine and the command line to it. All calls block."""

    def __init__(self, host: str, program: Program | None = None) -> None:
        self.host = host
        self._program = program

    @property
    def ours(self) -> bool:
        """Whether these tests started it, so that they may stop it."""
        return self._program is not None

    @property
    def socket(self) -> Path:
        """The engine's Unix socket; ends the test when it is reached another way."""
        if not self.host.startswith("unix://"):
            missing(f"an engine on a Unix socket (DOCKER_HOST is {self.host})", PACKAGES)
        return Path(self.host.removeprefix("unix://"))

    def docker(self, *words: str, limit: float = 60.0, environment: Mapping[str, str] | None = None) -> str:
        """What `docker WORDS` prints, without the last line's end; AssertionError with its messages when it fails."""
        done = self.attempt(*words, limit=limit, environment=environment)
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def attempt(
        self, *words: str, limit: float = 60.0, environment: Mapping[str, str] | None = None, program: str = "docker"
    ) -> subprocess.CompletedProcess[str]:
        """Runs `docker WORDS`; `environment` is added to the test's own."""
        return subprocess.run(
            [program, *words],
            env={**os.environ, "DOCKER_HOST": self.host, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )

    def answers(self) -> bool:
        return _answers(self.host)

    def stop(self) -> None:
        """Only ours: SIGTERM to the engine, which ends the containers first."""
        assert self._program is not None, f"{self.host} is not an engine of these tests"
        self._program.stop(60)

    def start(self) -> None:
        assert self._program is not None, f"{self.host} is not an engine of these tests"
        self._program.start(self.answers, 60)


@contextmanager
def running() -> Iterator[Engine]:
    """An engine: $DOCKER_HOST, the user's, the machine's, another test run's, or one that ends with the context."""
    if shutil.which("docker") is None:
        missing("Docker", PACKAGES)
    private = f"unix://{STATE}/docker.sock"
    for host in filter(None, (os.environ.get("DOCKER_HOST"), _context(), _USUAL, private)):
        if _answers(host):
            yield Engine(host)
            return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        missing("a Docker engine that answers (start one, or be root)", PACKAGES)
    _make_private(STATE)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two test runs one starts it
        if _answers(private):
            yield Engine(private)
            return
        _clean(STATE)
        engine = Engine(private, Program(_command(STATE, private), STATE / "log"))
        engine.start()
        _forget(engine)
    try:
        yield engine
    finally:
        engine.stop()


def base(engine: Engine) -> str:
    """Makes sure that the engine has the image that the Dockerfiles begin with; returns its name."""
    made = subprocess.run(
        ["bash", _HERE / "base.sh", BASE],
        env={**os.environ, "DOCKER_HOST": engine.host},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if made.returncode == 3:
        missing(f"the image {BASE}: {made.stderr.strip()[-300:]}", PACKAGES)
    assert made.returncode == 0, made.stderr[-4000:]
    return BASE


def _context() -> str:
    """The engine that the user's docker is set to; empty when it does not say."""
    asked = subprocess.run(
        ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return asked.stdout.strip()


def _answers(host: str) -> bool:
    try:
        asked = subprocess.run(
            ["docker", "--host", host, "version", "--format", "{{.Server.Version}}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    assert directory.stat().st_uid == 0, f"{directory} belongs to another user: name another by DOCKSTACK_TEST_DOCKER"


def _clean(state: Path) -> None:
    """An engine that was killed leaves mounts, a pid file whose number may be another's by now, and sockets."""
    points = (line.split()[1] for line in Path("/proc/mounts").read_text().splitlines())
    for point in sorted((each for each in points if each.startswith(f"{state}/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True, timeout=20)
    for name in ("pid", "docker.sock"):
        (state / name).unlink(missing_ok=True)
    shutil.rmtree(state / "exec", ignore_errors=True)


def _forget(engine: Engine) -> None:
    """Removes what test runs that were killed have left, and images that no build of the last day made or used."""
    if containers := engine.docker("ps", "--all", "--quiet", "--filter", f"name=^{NAMES}").split():
        engine.docker("rm", "--force", "--volumes", *containers)
    if networks := engine.docker("network", "ls", "--quiet", "--filter", f"name=^{NAMES}").split():
        engine.docker("network", "rm", *networks)
    engine.docker("image", "prune", "--force", "--filter", "until=24h")


def _command(state: Path, host: str) -> tuple[str, ...]:
    places = ("--data-root", f"{state}/root", "--exec-root", f"{state}/exec", "--pidfile", f"{state}/pid")
    return ("dockerd", *places, "-H", host, "--mtu", str(_mtu()), "--log-level", "warn")


def _mtu() -> int:
    """That of the way out: larger packets of a container would be lost there."""
    device = re.search(r"\bdev (\S+)", _ip("route", "get", "192.0.2.1"))
    mtu = re.search(r"\bmtu (\d+)", _ip("link", "show", "dev", device.group(1))) if device else None
    return int(mtu.group(1)) if mtu else 1500


def _ip(*words: str) -> str:
    return subprocess.run(["ip", "-o", *words], capture_output=True, text=True, timeout=10, check=False).stdout
