"""The synapse file: which services to follow, where, and how HAProxy is to serve them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from dockstack.registry.url import is_host
from dockstack.settings.common import (
    AloneToo,
    Copies,
    Flag,
    Hosts,
    Line,
    Lines,
    Model,
    Number,
    Port,
    Seconds,
    StatsdSettings,
    Text,
    TlsSettings,
    Whole,
)


def _one_is_a_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class LabelFilter(Model):
    """An instance passes when its label compares so with the value, type included."""

    label: str
    value: Any
    condition: Literal["equals", "not-equals"] = "equals"


class DefaultServer(Model):
    """A server that is served when discovery finds none."""

    host: str
    port: Port
    name: str | None = None
    weight: Whole | None = Field(default=None, ge=0)
    haproxy_server_options: Line | None = None
    haproxy_server_id: Whole | None = Field(default=None, ge=1)
    labels: dict[str, Any] | None = None
    id: Whole | None = Field(default=None, ge=0)
    _keys: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _keep_the_order(cls, data: Any, handler: ModelWrapValidatorHandler[DefaultServer]) -> DefaultServer:
        made = handler(data)
        made._keys = tuple(key for key in data if key in cls.model_fields) if isinstance(data, dict) else ()
        return made

    @property
    def as_given(self) -> dict[str, Any]:
        """The keys that the user wrote, in their order, with their values."""
        return {key: getattr(self, key) for key in self._keys or self.model_fields_set}


class Discovery(Model):
    """What every discovery method has."""

    label_filters: Annotated[tuple[LabelFilter, ...], BeforeValidator(_one_is_a_list), AloneToo()] = ()
    label_filter: LabelFilter | None = None
    generator_config_path: str | None = None

    @property
    def filters(self) -> tuple[LabelFilter, ...]:
        """All filters; an instance must pass each."""
        return self.label_filters if self.label_filter is None else (*self.label_filters, self.label_filter)


class BaseDiscovery(Discovery):
    """The default servers only."""

    method: Literal["base"]


class DecodeSettings(Model):
    """How a node's data becomes an instance."""

    method: Literal["nerve", "serverset"] = "nerve"
    endpoint_name: str | None = None


class RetryPolicy(Model):
    """How Ruby's client retried; accepted, and read as the limits of ours."""

    max_attempts: Whole = 10
    max_delay: Number = 600
    base_interval: Number = 0.5
    max_interval: Number = 60


class ZookeeperSource(Discovery):
    """A path of a ZooKeeper ensemble."""

    hosts: Annotated[Hosts, Field(min_length=1)]
    path: str
    decode: DecodeSettings = DecodeSettings()
    discovery_jitter: Number = 0
    retry_policy: RetryPolicy = RetryPolicy()
    auth: str | None = None
    tls: TlsSettings | None = None
    session_timeout: Number = Field(default=10.0, gt=0)


class ZookeeperDiscovery(ZookeeperSource):
    """Nodes below a ZooKeeper path."""

    method: Literal["zookeeper"]


class ZookeeperPollDiscovery(ZookeeperSource):
    """The same without watches: read again and again. A path that does not exist is empty, and is not made."""

    method: Literal["zookeeper_poll"]
    polling_interval_sec: Seconds = 60


class EtcdDiscovery(Discovery):
    """Keys below an etcd path; a host without a port has `port`."""

    method: Literal["etcd"]
    hosts: Annotated[Hosts, Field(min_length=1)]
    port: Port = 2379
    path: str
    decode: DecodeSettings = DecodeSettings()
    auth: str | None = None
    tls: TlsSettings | None = None


class FileDiscovery(Discovery):
    """Files below a directory of this host."""

    method: Literal["file"]
    directory: str
    path: str
    decode: DecodeSettings = DecodeSettings()


class Ec2tagDiscovery(Discovery):
    """The running instances of Amazon's EC2 that have a tag; access that is left out is as AWS' tools find it."""

    method: Literal["ec2tag", "awstag"]
    tag_name: Annotated[Text, Field(min_length=1)]
    tag_value: Text
    aws_region: str | None = None
    aws_access_key_id: Text | None = None
    aws_secret_access_key: SecretStr | None = None
    check_interval: Seconds = 15


def _host(host: str) -> str:
    if not is_host(host.strip("[]")):
        raise ValueError(f"{host!r} is neither a host name nor an IP address")
    return host


class DockerServer(Model):
    """A Docker engine, by its address; without a host the one of DOCKER_HOST, or of this host's usual socket."""

    name: Text | None = None
    host: Annotated[str, AfterValidator(_host)] | None = None
    port: Port = 4243

    @model_validator(mode="after")
    def _port_of_a_host(self) -> DockerServer:
        if self.host is None and "port" in self.model_fields_set:
            raise ValueError("has a port and no host; without a host it is the engine of DOCKER_HOST")
        return self


def _some(servers: tuple[DockerServer, ...]) -> tuple[DockerServer, ...]:
    if not servers:
        raise ValueError("must not be empty")
    return servers


class DockerDiscovery(Discovery):
    """The published ports of the running containers of an image."""

    method: Literal["docker"]
    servers: Annotated[tuple[DockerServer, ...], AfterValidator(_some)]
    image_name: Annotated[str, Field(min_length=1)]
    container_port: Port
    check_interval: Seconds = 15


OneDiscovery = Annotated[
    BaseDiscovery
    | ZookeeperDiscovery
    | ZookeeperPollDiscovery
    | EtcdDiscovery
    | FileDiscovery
    | Ec2tagDiscovery
    | DockerDiscovery,
    Field(discriminator="method"),
]
"""A discovery of one source."""


class BaseResolver(Model):
    """Nobody is served: what SmartStack's resolver of this name does."""

    method: Literal["base"]


class UnionResolver(Model):
    """The servers of all watchers together."""

    method: Literal["union"]


class SequentialResolver(Model):
    """The servers of the first watcher in this order that is up and has some; where none has, the first one's."""

    method: Literal["sequential"]
    sequential_order: tuple[str, ...]


def _s3_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key:
        raise ValueError(f"{url!r} is not written as s3://BUCKET/KEY")
    return url


class S3ToggleResolver(Model):
    """The servers of the watcher that was drawn by the weights in a file in S3; until it was read, of `primary`."""

    method: Literal["s3_toggle"]
    s3_url: Annotated[str, AfterValidator(_s3_url)]
    s3_polling_interval_seconds: Annotated[Number, Field(gt=0)]

    @property
    def file(self) -> tuple[str, str]:
        """The bucket, and the key in it."""
        bucket, _, key = self.s3_url.removeprefix("s3://").partition("/")
        return bucket, key


AnyResolver = BaseResolver | UnionResolver | SequentialResolver | S3ToggleResolver
Resolver = Annotated[AnyResolver, Field(discriminator="method")]


class MultiDiscovery(Discovery):
    """Several sources of one service, and how they become one."""

    method: Literal["multi"]
    watchers: Annotated[dict[str, OneDiscovery], Field(min_length=1)]
    resolver: Resolver


class DiscoveryMulti(Discovery):
    """The sources beside a service's `discovery`, which is the watcher `primary`, and how they become one."""

    method: Literal["multi"] = "multi"
    watchers: dict[str, OneDiscovery] = {}
    resolver: Resolver


PRIMARY = "primary"
"""The name that a service's `discovery` has among the watchers of its `discovery_multi`."""

DiscoverySettings = Annotated[
    BaseDiscovery
    | ZookeeperDiscovery
    | ZookeeperPollDiscovery
    | EtcdDiscovery
    | FileDiscovery
    | Ec2tagDiscovery
    | DockerDiscovery
    | MultiDiscovery,
    Field(discriminator="method"),
]


class ServiceHaproxy(Model):
    """A service's part of haproxy.cfg. `port` left out: a backend only; `port: null`: `bind_address` alone."""

    port: Port | None = None
    bind_address: Line | None = None
    bind_options: Line | None = None
    server_port_override: Port | None = None
    server_options: Line | None = None
    frontend: Lines = ()
    backend: Lines = ()
    listen: Lines = ()
    backend_name: Line | None = None
    backend_order: Literal["asc", "desc", "no_shuffle"] | None = None
    shared_frontend: Lines = ()
    cookie_value_method: Literal["name", "hash"] = "name"
    use_nerve_weights: Flag = False
    disabled: Flag = False

    @property
    def listens(self) -> bool:
        """Whether the service has a frontend of its own."""
        return "port" in self.model_fields_set


class ServiceFileOutput(Model):
    """A service's part of the JSON files."""

    disabled: Flag = False


class SynapseService(Model):
    """One service: where its instances are found and what is made of them."""

    discovery: DiscoverySettings
    discovery_multi: DiscoveryMulti | None = None
    default_servers: tuple[DefaultServer, ...] = ()
    keep_default_servers: Flag = False
    use_previous_backends: Flag = True
    backend_port_override: Port | None = None
    leader_election: Flag = False
    load_test_concurrency: Copies | None = None
    haproxy: ServiceHaproxy = ServiceHaproxy()
    file_output: ServiceFileOutput = ServiceFileOutput()

    @property
    def watchers(self) -> dict[str, OneDiscovery]:
        """Where instances are found, by the watcher's name; the one of a plain `discovery` has the name ""."""
        others = {} if self.discovery_multi is None else self.discovery_multi.watchers
        if isinstance(self.discovery, MultiDiscovery):
            return {**self.discovery.watchers}
        return {**others, (PRIMARY if self.discovery_multi else ""): self.discovery}

    @property
    def resolver(self) -> AnyResolver | None:
        """How the watchers become one; None where there is one only."""
        if self.discovery_multi is not None:
            return self.discovery_multi.resolver
        return self.discovery.resolver if isinstance(self.discovery, MultiDiscovery) else None

    def sources(self) -> Iterator[tuple[tuple[str, ...], OneDiscovery]]:
        """Each discovery of one source, and where in the service it stands."""
        if isinstance(self.discovery, MultiDiscovery):
            yield from ((("discovery", "watchers", name), one) for name, one in self.discovery.watchers.items())
        else:
            yield ("discovery",), self.discovery
        if self.discovery_multi is not None:
            yield from (
                (("discovery_multi", "watchers", name), one) for name, one in self.discovery_multi.watchers.items()
            )


class HaproxySettings(Model):
    """The top `haproxy` section."""

    global_: Annotated[Lines, Field(alias="global")]
    defaults: Lines
    extra_sections: dict[str, Lines] = {}
    bind_address: Line = "localhost"
    shared_frontend: Lines = ()
    do_writes: Flag = True
    do_reloads: Flag = True
    do_socket: Flag = True
    do_checks: Flag = False
    check_command: str | None = None
    candidate_config_file_path: str | None = None
    config_file_path: str | None = None
    socket_file_path: Lines = ()
    reload_command: str | None = None
    restart_interval: Seconds = 2.0
    restart_jitter: Seconds = 0.0
    state_file_path: str | None = None
    state_file_ttl: Seconds = 86400
    server_order_seed: Whole | None = None
    max_server_id: Whole = Field(default=65535, ge=1)
    use_nerve_weights: Flag = False


class FileOutputSettings(Model):
    """The top `file_output` section."""

    output_directory: str


class SynapseSettings(Model):
    """The whole file."""

    services: dict[str, SynapseService] = {}
    service_conf_dir: str | None = None
    statsd: StatsdSettings | None = None
    haproxy: HaproxySettings | None = None
    file_output: FileOutputSettings | None = None
