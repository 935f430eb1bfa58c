"""`load_test_concurrency`: one service that is run as many, named NAME_0, NAME_1 and so on. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from dockstack.settings.nerve import AnyService
    from dockstack.settings.synapse import SynapseService

S = TypeVar("S", bound="AnyService | SynapseService")


def spread(services: Mapping[str, S]) -> dict[str, S]:
    """The services as they are run, by name; a copy knows nothing of the others, so more of them leave it alone."""
    run: dict[str, S] = {}
    for name, service in services.items():
        if service.load_test_concurrency is None:
            run[name] = service
        else:
            one: S = service.model_copy(update={"load_test_concurrency": None})  # type: ignore[assignment]
            run.update(dict.fromkeys(_names(name, service), one))
    return run


def _names(name: str, service: AnyService | SynapseService) -> tuple[str, ...]:
    count = service.load_test_concurrency
    return (name,) if count is None else tuple(f"{name}_{number}" for number in range(count))


def clashes(services: Mapping[str, AnyService] | Mapping[str, SynapseService]) -> Iterator[tuple[str, str]]:
    """Services with a copy that has the name of another service, and what is wrong with each."""
    owners: dict[str, str] = {}
    for name, service in services.items():
        for each in _names(name, service):
            first = owners.setdefault(each, name)
            if first != name:
                yield name, f"is run as {each}, as {first} is: give one of them another name"
                break
