"""Docker's own HEALTHCHECK: up when the engine calls the container healthy. Asks nobody: the engine tells by events."""

from __future__ import annotations

from collections.abc import Callable

from dockstack.docker.containers import Picture
from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.settings.nerve import DockerCheck


def build(settings: DockerCheck, target: Address, look: Callable[[], Picture | None]) -> Check:
    """The check; `look` gives the newest picture of the containers. Raises ValueError where no container is named."""
    name = settings.container
    if name is None:
        raise ValueError("container is missing: name the container whose HEALTHCHECK counts")

    async def healthy(target: Address) -> None:
        """Returns, or raises Unhealthy with what the engine says."""
        if fault := fault_of(name, look()):
            raise Unhealthy(fault)

    return healthy


def fault_of(name: str, picture: Picture | None) -> str | None:
    """Why the container does not count as healthy, or None. Pure."""
    if picture is None:
        return "the Docker engine has not answered yet"
    container = picture.find(name)
    if container is None:
        return f"the container {name} does not exist"
    if container.plight is not None:
        return f"the container {name} {container.plight}"
    if container.health is None:
        return f"the container {name} has no HEALTHCHECK: give it one (docker run --health-cmd), or check another way"
    return None if container.health == "healthy" else f"the HEALTHCHECK of the container {name} says {container.health}"
