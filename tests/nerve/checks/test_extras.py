"""The clients of checks: imported by the first service that needs them, before its first check, which has no time for
it; and named where they are missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dockstack.configure import file
from dockstack.errors import ConfigurationError

CLIENTS = ("aiohttp", "aiomysql", "aiormq", "asyncpg", "grpc", "redis")


def a_file(directory: Path, *checks: str) -> Path:
    made = directory / "nerve.yaml"
    listed = "".join(f"      - {check}\n" for check in checks)
    made.write_text(
        f"instance_id: i\nservices:\n  a:\n    host: h\n    port: 1\n    zk_hosts: [z]\n    zk_path: /x\n"
        f"    checks:\n{listed}"
    )
    return made


@pytest.mark.parametrize(
    ("check", "module", "said"),
    [
        ("{type: redis}", "redis.asyncio", "the redis check … 'dockstack[redis]'"),
        ("{type: rabbitmq}", "aiormq", "the rabbitmq check … 'dockstack[rabbitmq]'"),
        ("{type: grpc}", "grpc_health.v1.health_pb2_grpc", "the grpc check … 'dockstack[grpc]'"),
        ("{type: grpc}", "grpc.aio", "the grpc check … 'dockstack[grpc]'"),
        (
            "{type: postgresql, username: u}",
            "asyncpg",
            "the postgresql check with a username … 'dockstack[postgresql]'",
        ),
    ],
)
def test_a_missing_client_is_named_with_its_extra_before_anything_starts(
    check: str, module: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # Python's word for: cannot be imported
    with pytest.raises(ConfigurationError) as raised:
        file(a_file(tmp_path, "{type: tcp}", check), None, False, {})
    (problem,) = raised.value.problems
    assert problem.where.endswith("services.a.checks[1]")
    name, _, install = said.partition(" … ")
    assert problem.what.startswith(f"{name} needs a client that cannot be imported (")
    assert problem.what.endswith(f"): pip install {install}")


def imported(path: Path) -> list[str]:
    """Which of the clients a program has in memory that has made this file ready to run."""
    kinds = ("exec", "grpc", "http", "mysql", "postgresql", "rabbitmq", "redis")
    program = (
        "import sys; from pathlib import Path; from dockstack.configure import file\n"
        f"import {', '.join(f'dockstack.nerve.checks.{kind}' for kind in kinds)}\n"
        f"file(Path({str(path)!r}), None, False, {{}})\n"
        f"print(*(name for name in {CLIENTS!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.split()


def test_a_client_is_imported_only_by_what_uses_it(tmp_path: Path) -> None:
    small = ("{type: tcp}", "{type: noop}", "{type: exec, command: x}", "{type: postgresql}", "{type: mysql}")
    assert imported(a_file(tmp_path, *small)) == []
    assert imported(a_file(tmp_path, "{type: redis}")) == ["redis"]
    clients = ("{type: rabbitmq}", "{type: postgresql, username: u}", "{type: grpc}", "{type: redis}")
    every = (*clients, "{type: http, uri: /}", "{type: mysql, username: u}")
    assert imported(a_file(tmp_path, *every)) == list(CLIENTS)
