"""The nerve file: which services to check, how, and where to register them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from dockstack.settings.common import Model, Port, Seconds, StatsdSettings, TlsSettings


class CheckSettings(Model):
    """What every check has; `host` and `port` default to the service's."""

    name: str | None = None
    host: str | None = None
    port: Port | None = None
    timeout: Seconds = 0.1
    rise: int = Field(default=1, ge=1)
    fall: int = Field(default=1, ge=1)
    module: str | None = None
    strict_rise: bool = False


class TcpCheck(CheckSettings):
    """Up when the port accepts a connection."""

    type: Literal["tcp"]


class HttpCheck(CheckSettings):
    """Up when `uri` answers 200-399 and the body contains `expect`."""

    type: Literal["http"]
    uri: str
    ssl: bool = False
    headers: dict[str, str] = {}
    expect: str | None = None
    read_timeout: Seconds | None = None
    open_timeout: Seconds = 0.2
    ssl_timeout: Seconds = 0.2
    verify: bool = False
    ca_file: str | None = None
    server_name: str | None = None


class MysqlCheck(CheckSettings):
    """Up when the server greets; with a username, when it also answers a query."""

    type: Literal["mysql"]
    username: str | None = None
    password: str = ""
    database: str | None = None
    query: str = "SELECT 1"


Check = Annotated[TcpCheck | HttpCheck | MysqlCheck, Field(discriminator="type")]


def _only_literal_true(value: Any) -> bool:
    return value is True


class NerveService(Model):
    """One service: its address, its checks, and its reporter."""

    host: str
    port: Port
    reporter_type: Literal["zookeeper", "etcd", "file"] = "zookeeper"
    check_interval: float = Field(default=0.5, gt=0)
    check_mocked: bool = False
    checks: tuple[Check, ...] = ()
    weight: int | None = Field(default=None, ge=0)
    haproxy_server_options: str | None = None
    labels: dict[str, Any] | None = None

    zk_hosts: tuple[str, ...] = ()
    zk_path: str | None = None
    use_path_encoding: Annotated[bool, BeforeValidator(_only_literal_true)] = False
    node_type: Literal["ephemeral_sequential", "persistent_sequential", "persistent", "ephemeral"] = (
        "ephemeral_sequential"
    )
    ttl_seconds: float | None = Field(default=None, gt=0)
    zk_auth: str | None = None
    zk_tls: TlsSettings | None = None
    zk_session_timeout: float = Field(default=10.0, gt=0)

    file_directory: str | None = None
    file_path: str | None = None


class NerveSettings(Model):
    """The whole file."""

    instance_id: str = Field(min_length=1)
    services: dict[str, NerveService] = {}
    service_conf_dir: str | None = None
    heartbeat_path: str | None = None
    max_repeated_report_failures: int = 10
    statsd: StatsdSettings | None = None
