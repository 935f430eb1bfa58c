"""The gRPC check against servers of grpcio in this process: each status, no health service, TLS, down, silent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from dockstack.nerve.checks.grpc import build, words
from dockstack.nerve.probe import Outcome
from dockstack.settings.nerve import GrpcCheck
from tests.nerve.checks.asking import here, outcome, saying, silent
from tests.servers.certificate import Certificate, certificate
from tests.servers.ports import free_port
from tests.servers.program import Program

UP = Outcome("it", True)


def settings(**keys: Any) -> GrpcCheck:
    return GrpcCheck.model_validate({"type": "grpc", "timeout": 5, **keys})


async def reason(port: int, **keys: Any) -> str:
    seen = await outcome(build, settings(**keys), port)
    assert (seen.healthy, seen.bug) == (False, None)
    return seen.reason


@contextmanager
def serving(statuses: dict[str, int] | None, pem: Certificate | None = None, mutual: bool = False) -> Iterator[int]:
    """The port of a server whose health service knows these services; None: it has no health service."""
    port = free_port()
    server = grpc.server(ThreadPoolExecutor(2))
    if statuses is not None:
        servicer = health.HealthServicer()
        for service, status in statuses.items():
            servicer.set(service, status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if pem is None:
        server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        pair, root = (pem.key.read_bytes(), pem.file.read_bytes()), pem.file.read_bytes() if mutual else None
        server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair], root, mutual))
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


async def test_a_server_that_serves_is_up() -> None:
    with serving({"": HealthCheckResponse.SERVING, "shop": HealthCheckResponse.SERVING}) as port:
        assert await outcome(build, settings(), port) == UP
        assert await outcome(build, settings(service="shop"), port) == UP


@pytest.mark.parametrize("status", ["NOT_SERVING", "UNKNOWN", "SERVICE_UNKNOWN"])
async def test_another_status_is_down(status: str) -> None:
    statuses = {"": HealthCheckResponse.SERVING, "shop": HealthCheckResponse.ServingStatus.Value(status)}
    with serving(statuses) as port:
        assert await outcome(build, settings(), port) == UP
        assert await reason(port, service="shop") == f"answered {status}"
        assert await reason(port, service="cart") == "the server's health service does not know the service 'cart'"


async def test_a_server_without_a_health_service_is_down() -> None:
    with serving(None) as port:
        assert await reason(port) == "the server has no health service (grpc.health.v1.Health)"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


async def test_tls(pem: Certificate) -> None:
    trusted = {"ca_file": str(pem.file)}
    with serving({"": HealthCheckResponse.SERVING}, pem) as port:
        assert await outcome(build, settings(tls=trusted), port) == UP
        assert await outcome(build, settings(tls=trusted, server_name="localhost"), port) == UP
        assert (await reason(port, tls=trusted, server_name="elsewhere")).startswith("UNAVAILABLE: ")
        assert "certificate verify failed" in (await reason(port, tls=True)).lower().replace("_", " ")
        assert (await reason(port)).startswith("UNAVAILABLE: ")
    with serving({"": HealthCheckResponse.SERVING}, pem, mutual=True) as port:
        both = {**trusted, "cert_file": str(pem.file), "key_file": str(pem.key)}
        assert await outcome(build, settings(tls=both), port) == UP
        assert (await reason(port, tls=trusted)).startswith("UNAVAILABLE: ")


def test_what_cannot_be_had_is_told_when_the_check_is_built(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="always verifies the certificate"):
        build(settings(tls={"verify": False}), here(1))
    with pytest.raises(FileNotFoundError):
        build(settings(tls={"ca_file": str(tmp_path / "none.pem")}), here(1))


async def test_a_server_that_is_killed_is_down_and_up_again_at_once(tmp_path: Path) -> None:
    port = free_port()
    program = Program((sys.executable, "-c", _SERVER, str(port)), tmp_path / "log")
    try:
        for _ in range(2):
            program.start(lambda: "ready" in program.output().splitlines()[-1:])
            assert await outcome(build, settings(), port) == UP
            program.kill()
            for _ in range(3):
                assert (await reason(port)).startswith("UNAVAILABLE: ")
            program.log.write_text("")
    finally:
        program.kill()


_SERVER = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from grpc_health.v1 import health, health_pb2_grpc
server = grpc.server(ThreadPoolExecutor(1))
health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
print("ready", flush=True)
server.wait_for_termination()
"""


@pytest.mark.parametrize("keys", [{}, {"tls": True}])
async def test_a_silent_server_is_down_in_time(keys: dict[str, Any]) -> None:
    async with silent() as port:
        assert await reason(port, timeout=0.2, **keys) == f"no answer from {here(port)} within 0.2 s"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64])
async def test_what_is_no_grpc_server_is_down(answer: bytes) -> None:
    async with saying(answer) as port:
        assert await reason(port, timeout=1) != ""


@pytest.mark.parametrize(
    ("code", "details", "said"),
    [
        ("NOT_FOUND", "x", "the server's health service does not know the service 'shop'"),
        ("UNAVAILABLE", "connect\n\n failed ", "UNAVAILABLE: connect failed"),
        ("INTERNAL", "", "INTERNAL"),
    ],
)
def test_a_status_as_a_reason(code: str, details: str, said: str) -> None:
    assert words(code, details, "shop") == said


def test_beside_a_grpc_check_commands_can_be_run_and_the_program_ends_without_a_word() -> None:
    """The client has threads, and hooks around fork."""
    done = subprocess.run([sys.executable, "-c", _BESIDE], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["True"] * 20, "")


_BESIDE = """
import asyncio, uvloop
from tests.nerve.checks.test_exec import settings as command, build as build_exec, here
from tests.nerve.checks.test_grpc import settings, build, serving, HealthCheckResponse
from dockstack.nerve.judge import Rule
from dockstack.nerve.probe import Probe, ask

async def main():
    with serving({"": HealthCheckResponse.SERVING}) as port:
        for _ in range(10):
            for check, deadline in ((build(settings(), here(port)), 5), (build_exec(command("echo x"), here(port)), 5)):
                print((await ask(Probe("it", check, here(port), deadline, Rule()))).healthy)

uvloop.run(main())
"""
