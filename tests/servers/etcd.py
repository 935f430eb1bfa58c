"""A real etcd on free loopback ports, alone or as a cluster, with its data in a directory of the test."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.missing import missing
from tests.servers.ports import free_ports
from tests.servers.program import Program
from tests.waiting import wait_until

PACKAGES = "etcd-server"


class EtcdServer:
    """Stop, kill and restart keep the ports and the data. All calls block: see `Program`.

    `peers` has the peer ports of all members by name where it is one of several. `options` are more words of its
    command line; with `--cert-file` among them it speaks TLS.
    """

    def __init__(
        self,
        directory: Path,
        name: str = "one",
        ports: tuple[int, int] | None = None,
        peers: Mapping[str, int] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        program = shutil.which("etcd") or missing("etcd", PACKAGES)
        self.directory = directory
        self.port, peer = free_ports(2) if ports is None else ports
        self._secure = "--cert-file" in options
        members = {name: peer} if peers is None else peers
        own = f"{'https' if self._secure else 'http'}://127.0.0.1:{self.port}"
        self.program = Program(
            (
                program,
                *("--name", name, "--data-dir", str(directory / "data")),
                *("--listen-client-urls", own, "--advertise-client-urls", own),
                *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
                *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
                *("--initial-cluster", ",".join(f"{one}=http://127.0.0.1:{port}" for one, port in members.items())),
                *("--heartbeat-interval", "50", "--election-timeout", "500", "--log-level", "warn"),
                *options,
            ),
            directory / f"etcd-{name}.log",
        )

    @property
    def hosts(self) -> str:
        """`127.0.0.1:PORT`, as in a host list."""
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "") -> str:
        """`etcd://127.0.0.1:PORT/path`."""
        return f"etcd://{self.hosts}/{path.lstrip('/')}".rstrip("/")

    def ask(self, method: str, body: Mapping[str, Any], token: str = "", limit: float = 10.0) -> dict[str, Any]:
        """The answer to `/v3/METHOD`; raises OSError."""
        scheme, context = "http", None
        if self._secure:
            scheme, context = "https", ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        request = urllib.request.Request(f"{scheme}://{self.hosts}/v3/{method}", json.dumps(body).encode())
        if token:
            request.add_header("Authorization", token)
        with urllib.request.urlopen(request, timeout=limit, context=context) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def put(self, key: str, value: bytes) -> None:
        self.ask("kv/put", {"key": text(key), "value": text(value)})

    def delete(self, key: str) -> None:
        self.ask("kv/deleterange", {"key": text(key)})

    def members(self, directory: str) -> dict[str, bytes]:
        """The keys directly in this directory (`/a/`), without it, and their values."""
        end = directory[:-1] + chr(ord(directory[-1]) + 1)
        found = self.ask("kv/range", {"key": text(directory), "range_end": text(end)}).get("kvs", [])
        pairs = ((base64.b64decode(one["key"]).decode(), base64.b64decode(one.get("value", ""))) for one in found)
        return {key.removeprefix(directory): value for key, value in pairs if "/" not in key.removeprefix(directory)}

    def launch(self) -> None:
        """Starts it without waiting: a member serves only with its fellows."""
        self.program.start(lambda: True)

    def start(self) -> None:
        """Returns when the server serves requests."""
        self.program.start(self.serves)

    def stop(self) -> None:
        self.program.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.program.kill()

    def restart(self) -> None:
        """Down and up again: leases live on."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """The kernel goes on to accept connections, and nothing is answered."""
        self.program.pause()

    def resume(self) -> None:
        self.program.resume()

    def serves(self) -> bool:
        """Whether it answers, which needs a leader."""
        try:
            return "header" in self.ask("kv/range", {"key": text("/")}, limit=1.0)
        except urllib.error.HTTPError as error:
            return error.code in (400, 401, 403)  # it wants to know who asks
        except (OSError, ValueError):
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.program.stop()


class EtcdCluster:
    """Three members."""

    def __init__(self, directory: Path) -> None:
        ports = free_ports(6)
        names = ("one", "two", "three")
        peers = dict(zip(names, ports[3:], strict=True))
        self.members = []
        for name, port in zip(names, ports[:3], strict=True):
            (directory / name).mkdir(parents=True)
            self.members.append(EtcdServer(directory / name, name, (port, peers[name]), peers))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for member in self.members:
                stack.callback(member.program.stop)
                member.launch()
            for member in self.members:
                wait_until(member.serves, "the cluster serves", 30)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def text(data: str | bytes) -> str:
    """As the gateway wants bytes."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()
