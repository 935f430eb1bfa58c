"""Containers as data: from an engine's answers and events to the picture of all containers. Pure."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

STOP_TIMEOUT = 10.0
"""Seconds that an engine waits between a container's stop signal and SIGKILL, unless the container says otherwise."""

_ALWAYS_STOP = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM})
_SHORT_ID = 12  # characters of an id that `docker ps` shows, and that are a container's host name
_AFTER: Mapping[str, str] = MappingProxyType({"die": "exited", "stop": "exited", "pause": "paused"})
_OF_INTEREST = frozenset(
    {"kill", "die", "stop", "pause", "unpause", "create", "start", "restart", "rename", "update", "destroy", "oom"}
)


@dataclass(frozen=True, slots=True)
class Published:
    """A container's port that the engine makes reachable on an address and port of its host."""

    port: int
    protocol: str
    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True)
class Network:
    """A network that a container is on, and its addresses there (empty: none)."""

    name: str
    ipv4: str
    ipv6: str


@dataclass(frozen=True, slots=True)
class Container:
    """One container. `health` is the state of its HEALTHCHECK, None without one. `stop_timeout` in seconds.

    `state` is the engine's word (created, running, paused, restarting, removing, exited, dead). `started` changes with
    each start. `registrator` has the environment variables that begin with SERVICE_, and no others. `stopping`: it was
    sent a signal that ends it, and has not ended.
    """

    id: str
    name: str
    image: str
    state: str
    started: str = ""
    health: str | None = None
    stop_signal: int = int(signal.SIGTERM)
    stop_timeout: float = STOP_TIMEOUT
    network_mode: str = ""
    exposed: tuple[tuple[int, str], ...] = ()
    published: tuple[Published, ...] = ()
    networks: tuple[Network, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    registrator: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    stopping: bool = False

    @property
    def running(self) -> bool:
        """Whether it runs and is meant to go on."""
        return self.state == "running" and not self.stopping

    @property
    def plight(self) -> str | None:
        """Why it is not running, as the end of a sentence; None when it is."""
        if self.running:
            return None
        return "is being stopped" if self.state == "running" else f"is not running ({self.state})"


@dataclass(frozen=True, slots=True)
class Picture:
    """All containers of an engine at one moment, by id."""

    containers: Mapping[str, Container] = field(default_factory=lambda: MappingProxyType({}))
    _named: Mapping[str, Container] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_named", MappingProxyType({c.name: c for c in self.containers.values()}))

    def find(self, text: str) -> Container | None:
        """The container of that name, else of that id or of an id that begins so (12 characters at least)."""
        named = self._named.get(text.removeprefix("/")) or self.containers.get(text)
        if named is not None or len(text) < _SHORT_ID:
            return named
        return next((container for id_, container in self.containers.items() if id_.startswith(text)), None)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An event of an engine that concerns a container: what happened, and with which signal."""

    action: str
    container: str
    signal: int | None = None


def picture(containers: Iterable[Container]) -> Picture:
    """The picture of these containers."""
    return Picture(MappingProxyType({container.id: container for container in containers}))


def container_of(answer: Mapping[str, Any]) -> Container:
    """From the answer of GET /containers/ID/json; raises ValueError with the reason when it is not one."""
    try:
        config, state, host = answer["Config"], answer["State"], answer.get("HostConfig") or {}
        network = answer.get("NetworkSettings") or {}
        health = (state.get("Health") or {}).get("Status")
        timeout = config.get("StopTimeout")
        return Container(
            id=answer["Id"],
            name=answer["Name"].removeprefix("/"),
            image=config.get("Image") or "",
            state=state["Status"],
            started=state.get("StartedAt") or "",
            health=None if health in (None, "", "none") else health,
            stop_signal=signal_number(config.get("StopSignal")) or int(signal.SIGTERM),
            stop_timeout=STOP_TIMEOUT if timeout is None or timeout < 0 else float(timeout),
            network_mode=host.get("NetworkMode") or "",
            exposed=tuple(sorted(map(_port_key, config.get("ExposedPorts") or {}))),
            published=tuple(_published(network.get("Ports") or {})),
            networks=tuple(_networks(network.get("Networks") or {})),
            labels=MappingProxyType(dict(config.get("Labels") or {})),
            registrator=MappingProxyType(dict(_registrator(config.get("Env") or ()))),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the engine's description cannot be read: {error!r}") from None


def fingerprint(entry: Mapping[str, Any]) -> str:
    """What of an entry of GET /containers/json changes when the container does; its age and size do not count."""
    settings = entry.get("NetworkSettings") or {}
    networks = {
        name: (network or {}).get("IPAddress") for name, network in sorted((settings.get("Networks") or {}).items())
    }
    ports = sorted(map(repr, entry.get("Ports") or ()))
    _, _, health = str(entry.get("Status") or "").partition("(")
    words = health if health.endswith(("healthy)", "health: starting)", "Paused)")) else ""
    return repr((entry.get("State"), entry.get("Names"), ports, networks, words))


def occurrence(event: Mapping[str, Any]) -> Occurrence | None:
    """From a line of GET /events: what it says of which container, or None where it changes none."""
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    action = str(event.get("Action") or event.get("status") or "")
    if event.get("Type") == "network":
        concerned = attributes.get("container")
        return Occurrence(action, concerned) if concerned and action in ("connect", "disconnect") else None
    concerned = actor.get("ID") or event.get("id")
    word = action.partition(":")[0]
    if event.get("Type", "container") != "container" or not concerned:
        return None
    if word not in _OF_INTEREST and word != "health_status":
        return None
    return Occurrence(word, concerned, signal_number(attributes.get("signal")))


def ends(container: Container, happened: Occurrence) -> bool:
    """Whether it is a signal after which the container is expected to end."""
    return happened.action == "kill" and happened.signal in {*_ALWAYS_STOP, container.stop_signal}


def marked(container: Container, happened: Occurrence) -> Container:
    """What is known of the container at once, before the engine has been asked again."""
    if ends(container, happened):
        return replace(container, stopping=container.state == "running")
    state = _AFTER.get(happened.action)
    return container if state is None else replace(container, state=state, stopping=False)


def refreshed(before: Container | None, now: Container, still: bool) -> Container:
    """The engine's newest description; a container that was being stopped still is, while `still` and the same run."""
    if before is None or not before.stopping:
        return now
    return replace(now, stopping=still and now.state == "running" and now.started == before.started)


def signal_number(text: str | int | None) -> int | None:
    """`15`, `TERM`, `SIGTERM`, `SIGRTMIN+3` as a number; None for no signal or one that is not known."""
    word = str(text or "").upper().removeprefix("SIG")
    if word.isdecimal():
        return int(word)
    name, sign, offset = word.replace("-", "+-").partition("+")
    found = getattr(signal, f"SIG{name}", None) if name.isalnum() else None
    if not isinstance(found, signal.Signals):
        return None
    try:
        return int(found) + (int(offset) if sign else 0)
    except ValueError:
        return None


def _port_key(text: str) -> tuple[int, str]:
    port, _, protocol = text.partition("/")
    return int(port), protocol or "tcp"


def _published(ports: Mapping[str, Any]) -> Iterable[Published]:
    for key, bindings in ports.items():
        port, protocol = _port_key(key)
        for binding in bindings or ():
            if binding.get("HostPort"):
                yield Published(port, protocol, binding.get("HostIp") or "0.0.0.0", int(binding["HostPort"]))


def _networks(networks: Mapping[str, Any]) -> Iterable[Network]:
    for name, network in sorted(networks.items()):
        yield Network(name, network.get("IPAddress") or "", network.get("GlobalIPv6Address") or "")


def _registrator(environment: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in environment:
        name, _, value = line.partition("=")
        if name.startswith("SERVICE_"):
            yield name, value
