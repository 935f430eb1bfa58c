"""The nerve file: which services to check, how, and where to register them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from dockstack.docker.address import advertise_fault
from dockstack.model import Address
from dockstack.settings.common import (
    Copies,
    FilePath,
    Flag,
    Host,
    Hosts,
    Line,
    Model,
    Number,
    Port,
    Seconds,
    StatsdSettings,
    Text,
    Tls,
    TlsSettings,
    Whole,
    Word,
    ZookeeperPath,
)


def _advertise(value: Any) -> Any:
    if not isinstance(value, str) or advertise_fault(value):
        raise ValueError(advertise_fault(str(value)))
    return value


def _some_time(value: float) -> float:
    if not value:
        raise ValueError(
            "is 0, which is no limit at all in SmartStack's nerve; every check has one here: give the seconds"
        )
    return value


def _command(value: Any) -> Any:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise ValueError("must be text for /bin/sh, or a list of words, numbers among them in quotes")
    if not words or not words[0].strip():
        raise ValueError("must not be empty")
    return value


class CheckSettings(Model):
    """What every check has; `host` and `port` default to the service's."""

    name: str | None = None
    host: Host | None = None
    port: Port | None = None
    timeout: Annotated[Seconds, AfterValidator(_some_time)] = 0.1
    rise: Whole = Field(default=1, ge=1)
    fall: Whole = Field(default=1, ge=1)
    module: str | None = Field(default=None, min_length=1)
    strict_rise: Flag = False

    @property
    def deadline(self) -> float:
        """Seconds after which a check that has not answered has failed."""
        return self.timeout


class TcpCheck(CheckSettings):
    """Up when the port accepts a connection."""

    type: Literal["tcp"]


class HttpCheck(CheckSettings):
    """Up when `uri` answers 200-399 and the body contains `expect`."""

    type: Literal["http"]
    uri: str
    ssl: Flag = False
    headers: dict[str, Text] = {}
    expect: Text | None = None
    read_timeout: Seconds | None = None
    open_timeout: Seconds = 0.2
    ssl_timeout: Seconds = 0.2
    verify: Flag = False
    ca_file: str | None = None
    server_name: str | None = None

    @property
    def deadline(self) -> float:
        """Seconds for the connection, the TLS handshake and the answer together."""
        answer = self.timeout if self.read_timeout is None else self.read_timeout
        return self.open_timeout + (self.ssl_timeout if self.ssl else 0) + answer


class MysqlCheck(CheckSettings):
    """Up when the server greets; with a username, when it also answers a query."""

    type: Literal["mysql"]
    username: Text | None = None
    password: Text = ""
    database: Text | None = None
    query: str = "SELECT 1"


class RabbitmqCheck(CheckSettings):
    """Up when a message that is sent to the queue `nerve` can be taken from it."""

    type: Literal["rabbitmq"]
    username: Text = "guest"
    password: Text = "guest"
    vhost: Text = "/"
    tls: Tls = None


class RedisCheck(CheckSettings):
    """Up when the server answers PING and EXISTS, and has the role that is wanted of it."""

    type: Literal["redis"]
    username: Text | None = None
    password: Text | None = None
    role: Literal["master", "slave", "replica"] | None = None
    tls: Tls = None


class PostgresqlCheck(CheckSettings):
    """Up when the server takes up a session; with a username, when it also answers a query."""

    type: Literal["postgresql"]
    username: Text | None = None
    password: Text = ""
    database: Text | None = None
    query: str = "SELECT 1"
    tls: Tls = None


class GrpcCheck(CheckSettings):
    """Up when the server's health service says that `service` (empty: the server as a whole) is serving."""

    type: Literal["grpc"]
    service: Text = ""
    tls: Tls = None
    server_name: str | None = None


class ExecCheck(CheckSettings):
    """Up when the command (text for /bin/sh, or a list of words) ends with status 0."""

    type: Literal["exec"]
    command: Annotated[str | tuple[str, ...], BeforeValidator(_command)]

    @property
    def deadline(self) -> float:
        """Seconds for the command, and for the system to end it when it has taken too long."""
        return self.timeout + 1.0


class DockerCheck(CheckSettings):
    """Up when Docker's own HEALTHCHECK says so of `container`, by default that of the service."""

    type: Literal["docker"]
    container: Text | None = Field(default=None, min_length=1)


class NoopCheck(CheckSettings):
    """Always up."""

    type: Literal["noop"]


class PluginCheck(CheckSettings):
    """A check of somebody else's: the entry point named `module`, which reads the keys that are not listed here."""

    model_config = ConfigDict(extra="allow")

    type: str
    module: str


def _check_type(value: Any) -> str | None:
    if isinstance(value, CheckSettings):
        return "plugin" if isinstance(value, PluginCheck) else str(getattr(value, "type", ""))
    if not isinstance(value, dict):
        return None
    return "plugin" if value.get("module") is not None else value.get("type")


Check = Annotated[
    Annotated[TcpCheck, Tag("tcp")]
    | Annotated[HttpCheck, Tag("http")]
    | Annotated[MysqlCheck, Tag("mysql")]
    | Annotated[RabbitmqCheck, Tag("rabbitmq")]
    | Annotated[RedisCheck, Tag("redis")]
    | Annotated[PostgresqlCheck, Tag("postgresql")]
    | Annotated[GrpcCheck, Tag("grpc")]
    | Annotated[ExecCheck, Tag("exec")]
    | Annotated[DockerCheck, Tag("docker")]
    | Annotated[NoopCheck, Tag("noop")]
    | Annotated[PluginCheck, Tag("plugin")],
    Discriminator(_check_type),
]


def _only_literal_true(value: Any) -> bool:
    return value is True


class RateLimiting(Model):
    """How often a service may be reported: `average_rate` times a second (null: as often as it changes), after a rest
    `max_burst` times at once. In shadow mode what would be held back is told, and reported all the same."""

    shadow_mode: Flag = True
    average_rate: Number | None = Field(default=None, ge=0)
    max_burst: Number | None = Field(default=None, ge=1)


class AnyService(Model):
    """What a service has wherever it is: its checks, and its reporter."""

    reporter_type: Literal["zookeeper", "etcd", "file"] = "zookeeper"
    check_interval: Number = Field(default=0.5, gt=0)
    check_mocked: Flag = False
    checks: tuple[Check, ...] = ()
    weight: Whole | None = Field(default=None, ge=0)
    haproxy_server_options: Line | None = None
    labels: dict[str, Any] | None = None
    rate_limiting: RateLimiting = RateLimiting()
    load_test_concurrency: Copies | None = None

    zk_hosts: Hosts = ()
    zk_path: ZookeeperPath | None = None
    use_path_encoding: Annotated[bool, BeforeValidator(_only_literal_true), WithJsonSchema({})] = False
    node_type: Literal["ephemeral_sequential", "persistent_sequential", "persistent", "ephemeral"] = (
        "ephemeral_sequential"
    )
    ttl_seconds: Number | None = Field(default=None, gt=0)
    zk_auth: str | None = None
    zk_tls: TlsSettings | None = None
    zk_session_timeout: Number = Field(default=10.0, gt=0)

    etcd_host: Hosts = ()
    etcd_port: Port = 2379
    etcd_path: str = "/"
    etcd_auth: str | None = None
    etcd_tls: TlsSettings | None = None
    etcd_session_timeout: Number = Field(default=10.0, gt=0)

    file_directory: str | None = None
    file_path: FilePath | None = None


class NerveService(AnyService):
    """One service: its address, its checks, and its reporter."""

    host: Host
    port: Port


class ContainerService(AnyService):
    """A service whose address the Docker engine knows: where `container_port` of `container` is published, under the
    name `host`; or, as `advertise` says, the container's own address on a network (`docker`, `docker:NETWORK`)."""

    container: Text = Field(min_length=1)
    container_port: Port
    host: Host | None = None
    advertise: Annotated[str, BeforeValidator(_advertise)] = "host"

    @model_validator(mode="after")
    def _has_a_host(self) -> Self:
        if self.host is None and self.advertise == "host":
            raise ValueError("host is missing: the address under which others reach this host's published ports")
        return self

    def at(self, address: Address) -> NerveService:
        """The service with this address."""
        known = {name: getattr(self, name) for name in AnyService.model_fields}
        said = (self.model_fields_set & AnyService.model_fields.keys()) | {"host", "port"}
        return NerveService.model_construct(said, **known, host=address.host, port=address.port)


def _service_kind(value: Any) -> str:
    named = "container" in value if isinstance(value, dict) else isinstance(value, ContainerService)
    return "of a container" if named else "of a host"


Service = Annotated[
    Annotated[NerveService, Tag("of a host")] | Annotated[ContainerService, Tag("of a container")],
    Discriminator(_service_kind),
]


class NerveSettings(Model):
    """The whole file. `max_repeated_report_failures` has nothing to count: a report is tried until it is written."""

    instance_id: Word = Field(min_length=1)
    services: dict[str, Service] = {}
    service_conf_dir: str | None = None
    heartbeat_path: str | None = None
    max_repeated_report_failures: Whole = 10
    statsd: StatsdSettings | None = None
