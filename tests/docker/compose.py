"""Runs an example's compose.yaml by `docker run`, with names of the test's own: what is documented is what is tested.

It knows the keys that the examples use and refuses all others.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.docker.yard import Container, Yard

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOCKET = "/var/run/docker.sock"
# What `docker compose` does with these needs no option of `docker run`.
_APART = {"image", "command", "entrypoint", "build", "container_name", "depends_on", "networks", "profiles"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::\?[^}]*)?\}")


@dataclass(frozen=True, slots=True)
class Substitute:
    """The image that stands for one of the example's, and options that make it behave likewise."""

    image: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Launch:
    """Words for `docker run`, and what it cannot say: further networks, each with the container's name there."""

    image: str
    command: tuple[str, ...]
    options: tuple[str, ...]
    networks: tuple[tuple[str, str], ...]


class Example:
    """An example in a yard: its networks are made at once, its services started one by one."""

    def __init__(self, yard: Yard, name: str, substitute: Callable[[str], Substitute]) -> None:
        self._yard = yard
        self._directory = EXAMPLES / name
        self._substitute = substitute
        document = yaml.safe_load((self._directory / "compose.yaml").read_text())
        assert {key for key in document if not key.startswith("x-")} <= {"services", "networks"}
        self.networks = {key: yard.network(key, *_network(spec or {})) for key, spec in document["networks"].items()}
        environment = {
            "SERVICE_HOST": yard.host(self.networks["host-a"]),
            "DOCKER_GID": str(yard.engine.socket.stat().st_gid),
        }
        self.services: dict[str, dict[str, Any]] = _filled(document["services"], environment)

    def start(self, name: str, *more: str) -> Container:
        """Starts the service, with more options of `docker run`; the engine knows it as PREFIX-SERVICE."""
        launch = self._launch(name)
        options = (*launch.options, *more)
        return self._yard.run(self._short(name), launch.image, launch.command, options, launch.networks)

    def once(self, name: str, *more: str) -> str:
        """What `docker compose run --rm SERVICE` prints."""
        launch = self._launch(name)
        return self._yard.once(launch.image, launch.command, (*launch.options, *more))

    def waiting(self, name: str) -> Container:
        """The service's container with nothing to do, for `execute(*example.command(name))`: quicker than `once`."""
        launch = self._launch(name)
        options = (*launch.options, "--stop-signal", "KILL", "--entrypoint", "sleep")
        return self._yard.run(name, launch.image, ("1000000",), options)

    def command(self, name: str) -> tuple[str, ...]:
        """What the service runs."""
        spec = self.services[name]
        return (*_words(spec.get("entrypoint")), *self._renamed(_words(spec.get("command"))))

    def _short(self, name: str) -> str:
        return str(self.services[name].get("container_name", name))

    def _launch(self, name: str) -> _Launch:
        spec = self.services[name]
        stand_in = self._substitute(spec["image"])
        options = [word for key in spec.keys() - _APART for word in _OPTIONS[key](spec[key], self)]
        first, *others = spec["networks"]
        options += [*stand_in.options, "--network", self.networks[first], "--network-alias", name]
        command = self._renamed(_words(spec.get("command")))
        if entry := _words(spec.get("entrypoint")):
            options += ["--entrypoint", entry[0]]
            command = (*entry[1:], *command)
        return _Launch(stand_in.image, command, tuple(options), tuple((self.networks[one], name) for one in others))

    def _renamed(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """With the names that the containers have in the yard, where nerve is told one."""
        known = {spec["container_name"] for spec in self.services.values() if "container_name" in spec}

        def renamed(word: str) -> str:
            fields = word.split(":")
            if len(fields) == 5 and fields[2] in known:
                fields[2] = self._yard.name(fields[2])
            return ":".join(fields)

        return tuple(
            renamed(word) if before == "-s" else word for before, word in zip(("", *command), command, strict=False)
        )

    def link(self, text: str) -> str:
        """A link to a service, by its container's name here."""
        service, _, alias = text.partition(":")
        return f"{self._yard.name(self._short(service))}:{alias}"

    def volume(self, text: str) -> str:
        """A mount, by the place of the example and the engine's socket."""
        source, _, rest = text.partition(":")
        place = str(self._yard.engine.socket) if source == SOCKET else str((self._directory / source).resolve())
        return f"{place}:{rest}"


def _network(spec: Mapping[str, Any]) -> tuple[str, ...]:
    assert spec.keys() <= {"internal"}
    return ("--internal",) if spec.get("internal") else ()


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    match value:
        case str():
            return _VARIABLE.sub(lambda found: environment[found.group(1)], value)
        case list():
            return [_filled(one, environment) for one in value]
        case dict():
            return {key: _filled(one, environment) for key, one in value.items()}
    return value


def _words(value: str | list[str] | None) -> tuple[str, ...]:
    return tuple(shlex.split(value) if isinstance(value, str) else value or ())


def _each(option: str, values: list[str], example: Example) -> list[str]:
    return [word for value in values for word in (option, value)]


def _pairs(option: str, values: Mapping[str, str], example: Example) -> list[str]:
    return [word for name, value in values.items() for word in (option, f"{name}={value}")]


def _mapped(option: str, method: str, values: list[str], example: Example) -> list[str]:
    return [word for value in values for word in (option, getattr(example, method)(value))]


_OPTIONS: Mapping[str, Callable[[Any, Example], list[str]]] = {
    "cap_drop": partial(_each, "--cap-drop"),
    "environment": partial(_pairs, "--env"),
    "group_add": partial(_each, "--group-add"),
    "healthcheck": lambda spec, _: ["--no-healthcheck"] if spec == {"disable": True} else [],
    "labels": partial(_pairs, "--label"),
    "links": partial(_mapped, "--link", "link"),
    "ports": partial(_each, "--publish"),
    "read_only": lambda value, _: ["--read-only"] if value else [],
    "restart": lambda value, _: ["--restart", value],
    "security_opt": partial(_each, "--security-opt"),
    "stop_signal": lambda value, _: ["--stop-signal", value],
    "tmpfs": partial(_each, "--tmpfs"),
    "volumes": partial(_mapped, "--volume", "volume"),
}
