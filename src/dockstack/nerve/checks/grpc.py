"""Up when a gRPC server's health service (grpc.health.v1) answers SERVING.

A channel for each round: one that is kept waits longer and longer before it connects again, which would delay the
moment when a server that has come back is seen.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.plugins import extra
from dockstack.settings.common import TlsSettings
from dockstack.settings.nerve import GrpcCheck

if TYPE_CHECKING:
    import grpc

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # no connection, and no waiting time, of another check's
    ("grpc.enable_retries", 0),
)


def build(settings: GrpcCheck, target: Address) -> Check:
    """The check with its certificates; raises ValueError without the client, OSError when a file cannot be read."""
    with extra("grpc", "the grpc check"):
        import grpc.aio  # noqa: F401 - at the start, where there is time for it
        import grpc_health.v1.health_pb2_grpc  # noqa: F401
    credentials = None if settings.tls is None else _credentials(settings.tls)

    async def check(target: Address) -> None:
        await ask(settings, target, credentials)

    return check


async def ask(settings: GrpcCheck, target: Address, credentials: grpc.ChannelCredentials | None) -> None:
    """Asks once on a channel of its own; raises Unhealthy with the server's status or the channel's words."""
    import grpc.aio
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    # A connection that is begun goes on for so long, also when its channel is closed: 20 s unless it is told.
    options: tuple[tuple[str, int | str], ...] = (
        *_OPTIONS,
        ("grpc.min_reconnect_backoff_ms", round(settings.timeout * 1000)),
        ("grpc.initial_reconnect_backoff_ms", round(settings.timeout * 1000)),
    )
    if settings.server_name is not None:
        options = (*options, ("grpc.ssl_target_name_override", settings.server_name))
    where = f"dns:///{target}"
    if credentials is None:
        channel = grpc.aio.insecure_channel(where, options=options)
    else:
        channel = grpc.aio.secure_channel(where, credentials, options=options)
    async with channel:
        try:
            answer = await HealthStub(channel).Check(HealthCheckRequest(service=settings.service))
        except grpc.aio.AioRpcError as error:
            raise Unhealthy(words(error.code().name, error.details() or "", settings.service)) from error
    if answer.status != HealthCheckResponse.SERVING:
        raise Unhealthy(f"answered {HealthCheckResponse.ServingStatus.Name(answer.status)}")


def words(code: str, details: str, service: str) -> str:
    """A status of gRPC as a reason."""
    if code == "NOT_FOUND":
        return f"the server's health service does not know the service {service!r}"
    if code == "UNIMPLEMENTED":
        return "the server has no health service (grpc.health.v1.Health)"
    said = re.sub(r"\s+", " ", details).strip()
    return f"{code}: {said}" if said else code


def _credentials(tls: TlsSettings) -> grpc.ChannelCredentials:
    import grpc

    if not tls.verify:
        raise ValueError("a gRPC client always verifies the certificate: remove verify, or name a ca_file")

    def content(file: str | None) -> bytes | None:
        return None if file is None else Path(file).read_bytes()

    return grpc.ssl_channel_credentials(content(tls.ca_file), content(tls.key_file), content(tls.cert_file))
