"""Docker's HEALTHCHECK as a check: what each state of a container is worth, and whose it is."""

from __future__ import annotations

from typing import Any

import pytest

from dockstack.docker.containers import Container, Picture, picture
from dockstack.errors import ConfigurationError
from dockstack.nerve.checks.docker import fault_of
from dockstack.nerve.probe import ask
from dockstack.nerve.service import plan
from dockstack.settings.nerve import NerveSettings


def seen(state: str = "running", **more: Any) -> Picture:
    return picture([Container("1" * 64, "db", "image", state, **more)])


@pytest.mark.parametrize(
    ("now", "fault"),
    [
        (seen(health="healthy"), None),
        (seen(health="unhealthy"), "the HEALTHCHECK of the container db says unhealthy"),
        (seen(health="starting"), "the HEALTHCHECK of the container db says starting"),
        (
            seen(),
            "the container db has no HEALTHCHECK: give it one (docker run --health-cmd), or check another way",
        ),
        (seen("paused", health="healthy"), "the container db is not running (paused)"),
        (seen(health="healthy", stopping=True), "the container db is being stopped"),
        (Picture(), "the container db does not exist"),
        (None, "the Docker engine has not answered yet"),
    ],
)
async def test_what_the_engine_says(now: Picture | None, fault: str | None) -> None:
    assert fault_of("db", now) == fault
    (service,) = plan(settings({"type": "docker", "container": "db"}), lambda: now)
    outcome = await ask(service.probes[0])
    assert (outcome.healthy, outcome.reason) == (fault is None, fault or "")


def settings(check: dict[str, Any], **place: Any) -> NerveSettings:
    where = place or {"host": "127.0.0.1", "port": 80}
    service = {**where, "reporter_type": "file", "file_directory": "/r", "file_path": "/db", "checks": [check]}
    return NerveSettings.model_validate({"instance_id": "i-1", "services": {"web": service}})


async def test_the_container_is_that_of_the_service() -> None:
    boxed = settings({"type": "docker"}, host="127.0.0.1", container="db", container_port=80)
    (service,) = plan(boxed, lambda: seen(health="healthy"))
    assert (await ask(service.probes[0])).healthy


def test_a_service_of_a_host_must_name_it() -> None:
    with pytest.raises(ConfigurationError, match="container is missing: name the container whose HEALTHCHECK counts"):
        plan(settings({"type": "docker"}))
