"""Where a service's instances are found: a class for each discovery method, with its keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from dockstack.registry.url import is_host
from dockstack.settings import marathon
from dockstack.settings.common import (
    BUILT_IN,
    OFFERED,
    AloneToo,
    FilePath,
    Hosts,
    Model,
    Number,
    Port,
    Seconds,
    Text,
    TlsSettings,
    Whole,
    ZookeeperPath,
)

T = TypeVar("T")


def _one_is_a_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _host(host: str) -> str:
    if not is_host(host.strip("[]")):
        raise ValueError(f"{host!r} is neither a host name nor an IP address")
    return host


def _some(servers: tuple[T, ...]) -> tuple[T, ...]:
    if not servers:
        raise ValueError("must not be empty")
    return servers


class LabelFilter(Model):
    """An instance passes when its label compares so with the value, type included."""

    label: str
    value: Any
    condition: Literal["equals", "not-equals"] = "equals"


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
    path: ZookeeperPath
    decode: DecodeSettings = DecodeSettings()
    discovery_jitter: Number = 0
    retry_policy: RetryPolicy = RetryPolicy()
    auth: str | None = None
    tls: TlsSettings | None = None
    session_timeout: Number = Field(default=10.0, gt=0)


class ZookeeperDiscovery(ZookeeperSource):
    """Nodes below a ZooKeeper path."""

    method: Literal["zookeeper"]


class ZookeeperPollSource(ZookeeperSource):
    """The same without watches: read again and again. A path that does not exist is empty, and is not made."""

    polling_interval_sec: Seconds = 60


class ZookeeperPollDiscovery(ZookeeperPollSource):
    """Nodes below a ZooKeeper path, read again and again."""

    method: Literal["zookeeper_poll"]


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
    path: FilePath
    decode: DecodeSettings = DecodeSettings()


class DnsServer(Model):
    """A name, and the port of all its addresses; without a port a `_service._proto.` name has SRV records."""

    host: Annotated[str, AfterValidator(_host)]
    port: Port | None = None
    name: Text | None = None
    labels: dict[str, Any] | None = None

    @property
    def has_services(self) -> bool:
        """Whether hosts and ports are in the SRV records of the name."""
        return self.port is None and self.host.startswith("_")


class DnsSource(Discovery):
    """Names that DNS resolves. `nameserver`: HOST[:PORT] of others than the system's."""

    nameserver: Hosts = ()
    check_interval: Seconds = 30


class DnsDiscovery(DnsSource):
    """The addresses behind names."""

    method: Literal["dns"]
    servers: Annotated[tuple[DnsServer, ...], AfterValidator(_some)]


class ZookeeperDnsDiscovery(ZookeeperSource, DnsSource):
    """The addresses behind the hosts of the nodes below a ZooKeeper path."""

    method: Literal["zookeeper_dns"]


class ZookeeperDnsPollDiscovery(ZookeeperPollSource, DnsSource):
    """The same, with the path read again and again."""

    method: Literal["zookeeper_dns_poll"]


class MarathonDiscovery(Discovery):
    """The tasks of an application that Marathon runs."""

    method: Literal["marathon"]
    marathon_api_url: Annotated[str, AfterValidator(marathon.url)]
    application_name: Annotated[Text, Field(min_length=1)]
    check_interval: Seconds = 10
    port_index: Whole = Field(default=0, ge=0)
    marathon_api_path: Annotated[str, AfterValidator(marathon.path)] = marathon.PATH
    tls: TlsSettings | None = None


class Ec2tagDiscovery(Discovery):
    """The running instances of Amazon's EC2 that have a tag; access that is left out is as AWS' tools find it."""

    method: Literal["ec2tag", "awstag"]
    tag_name: Annotated[Text, Field(min_length=1)]
    tag_value: Text
    aws_region: str | None = None
    aws_access_key_id: Text | None = None
    aws_secret_access_key: SecretStr | None = None
    check_interval: Seconds = 15


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


class DockerDiscovery(Discovery):
    """The published ports of the running containers of an image."""

    method: Literal["docker"]
    servers: Annotated[tuple[DockerServer, ...], AfterValidator(_some)]
    image_name: Annotated[str, Field(min_length=1)]
    container_port: Port
    check_interval: Seconds = 15


OwnDiscovery = (
    BaseDiscovery
    | ZookeeperDiscovery
    | ZookeeperPollDiscovery
    | EtcdDiscovery
    | FileDiscovery
    | Ec2tagDiscovery
    | DockerDiscovery
    | DnsDiscovery
    | ZookeeperDnsDiscovery
    | ZookeeperDnsPollDiscovery
    | MarathonDiscovery
)

METHODS = (
    *(name for one in get_args(OwnDiscovery) for name in get_args(one.model_fields["method"].annotation)),
    "multi",
)
"""The discovery methods that no plug-in can replace."""


class PluginDiscovery(Discovery):
    """A method of somebody else's: the entry point of its name reads the keys that are not listed here."""

    model_config = ConfigDict(extra="allow")

    method: Annotated[str, WithJsonSchema({"type": "string", "not": {"enum": list(METHODS)}})]


def is_offered(info: ValidationInfo, group: str, name: object) -> bool:
    """Whether a plug-in of this name is installed, as far as whoever validates has said how to find out."""
    offered = (info.context or {}).get(OFFERED)
    return isinstance(name, str) and offered is not None and bool(offered(group, name))


def of_a_plugin(value: Any, info: ValidationInfo) -> Any:
    """The value, as a `PluginDiscovery` where a plug-in has its method."""
    method = value.get("method") if isinstance(value, dict) else None
    if method in METHODS or not is_offered(info, "watchers", method):
        return value
    return PluginDiscovery.model_validate(value)


def origin(value: Any) -> str:
    """The tag of a discovery: whose method it is."""
    return "plugin" if isinstance(value, PluginDiscovery) else BUILT_IN


OneDiscovery = Annotated[
    Annotated[OwnDiscovery, Field(discriminator="method"), Tag(BUILT_IN)] | Annotated[PluginDiscovery, Tag("plugin")],
    Discriminator(origin),
    BeforeValidator(of_a_plugin),
]
"""A discovery of one source."""
