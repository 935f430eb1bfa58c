"""The synapse file: which services to follow, where, and how HAProxy is to serve them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from dockstack.settings.common import (
    Flag,
    Hosts,
    Line,
    Lines,
    Model,
    Number,
    Port,
    Seconds,
    StatsdSettings,
    TlsSettings,
    Whole,
)

STATS_SECTION = "listen dockstack-stats"
"""The extra section that `--stats` adds."""


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
    weight: Whole | None = None
    haproxy_server_options: Line | None = None
    haproxy_server_id: Whole | None = None
    labels: dict[str, Any] | None = None
    id: Whole | None = None


class Discovery(Model):
    """What every discovery method has."""

    label_filters: Annotated[tuple[LabelFilter, ...], BeforeValidator(_one_is_a_list)] = ()
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


class ZookeeperDiscovery(Discovery):
    """Nodes below a ZooKeeper path."""

    method: Literal["zookeeper"]
    hosts: Annotated[Hosts, Field(min_length=1)]
    path: str
    decode: DecodeSettings = DecodeSettings()
    discovery_jitter: Number = 0
    retry_policy: RetryPolicy = RetryPolicy()
    auth: str | None = None
    tls: TlsSettings | None = None
    session_timeout: Number = Field(default=10.0, gt=0)


class FileDiscovery(Discovery):
    """Files below a directory of this host."""

    method: Literal["file"]
    directory: str
    path: str
    decode: DecodeSettings = DecodeSettings()


DiscoverySettings = Annotated[BaseDiscovery | ZookeeperDiscovery | FileDiscovery, Field(discriminator="method")]


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

    later: ClassVar[frozenset[str]] = frozenset({"discovery_multi", "load_test_concurrency"})

    discovery: DiscoverySettings
    default_servers: tuple[DefaultServer, ...] = ()
    keep_default_servers: Flag = False
    use_previous_backends: Flag = True
    backend_port_override: Port | None = None
    leader_election: Flag = False
    haproxy: ServiceHaproxy = ServiceHaproxy()
    file_output: ServiceFileOutput = ServiceFileOutput()


class HaproxySettings(Model):
    """The top `haproxy` section."""

    idle: ClassVar[frozenset[str]] = frozenset({"state_file_path", "state_file_ttl"})

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

    idle: ClassVar[frozenset[str]] = frozenset({"statsd", "file_output"})

    services: dict[str, SynapseService] = {}
    service_conf_dir: str | None = None
    statsd: StatsdSettings | None = None
    haproxy: HaproxySettings | None = None
    file_output: FileOutputSettings | None = None
