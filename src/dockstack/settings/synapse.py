"""The synapse file: which services to follow, where, and how HAProxy is to serve them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Tag,
    ValidationInfo,
    model_validator,
)

from dockstack.settings.common import (
    BUILT_IN,
    Copies,
    Flag,
    Line,
    Lines,
    Model,
    Port,
    Seconds,
    StatsdSettings,
    Whole,
)
from dockstack.settings.discovery import (
    OneDiscovery,
    OwnDiscovery,
    PluginDiscovery,
    is_offered,
    of_a_plugin,
    origin,
)
from dockstack.settings.multi import PRIMARY, AnyResolver, DiscoveryMulti, MultiDiscovery


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


DiscoverySettings = Annotated[
    Annotated[OwnDiscovery | MultiDiscovery, Field(discriminator="method"), Tag(BUILT_IN)]
    | Annotated[PluginDiscovery, Tag("plugin")],
    Discriminator(origin),
    BeforeValidator(of_a_plugin),
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


class _WithSections(Model):
    """A part in which outputs of somebody else's have sections beside ours, by their names."""

    _sections: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _set_apart(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        theirs: dict[str, Any] = {}
        if isinstance(data, dict):
            names = data.keys() - {field.alias or name for name, field in cls.model_fields.items()}
            theirs = {name: data[name] for name in data if name in names and is_offered(info, "outputs", name)}
            data = {name: value for name, value in data.items() if name not in theirs} if theirs else data
        made = handler(data)
        if theirs:
            made._sections = theirs
        return made

    @property
    def sections(self) -> Mapping[str, Any]:
        """What the user wrote for outputs of somebody else's, by the output's name, as it is."""
        return self._sections

    def with_sections(self, sections: Mapping[str, Any]) -> Self:
        """The same, with these sections in the place of those that have their names."""
        if not sections:
            return self
        made = self.model_copy()
        made._sections = {**self._sections, **sections}
        return made


class SynapseService(_WithSections):
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


class SynapseSettings(_WithSections):
    """The whole file."""

    services: dict[str, SynapseService] = {}
    service_conf_dir: str | None = None
    statsd: StatsdSettings | None = None
    haproxy: HaproxySettings | None = None
    file_output: FileOutputSettings | None = None
