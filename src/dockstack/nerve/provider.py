"""Keeps a roster equal to what the labels of all running containers ask for."""

from __future__ import annotations

from collections.abc import Iterable

from dockstack.admin.report import Report
from dockstack.docker.containers import Container, Picture
from dockstack.errors import ConfigurationError
from dockstack.events import Emit, Warn
from dockstack.nerve.labelled import Terms, Where, services_of
from dockstack.nerve.roster import Roster
from dockstack.nerve.service import Service

_TOLD = 5  # faults of a container that are told at once

_Run = tuple[str, str, object, object]  # which start of which container, and the address that it had


class Provider:
    """Has the services of labels in a roster of their own; what a picture does not change is left alone there."""

    def __init__(self, roster: Roster, emit: Emit) -> None:
        self._roster = roster
        self._emit = emit
        self._known: dict[str, tuple[Container, tuple[Service, ...], str | None]] = {}  # by container
        self._terms: tuple[Terms, Where] | None = None  # those by which the known ones were made
        self._told: dict[str, str] = {}  # the last fault of each container
        self._runs: dict[str, _Run] = {}  # by service
        self._first: frozenset[str] | None = None  # the services of the first picture

    def see(self, now: Picture, others: Iterable[Service], terms: Terms, where: Where) -> None:
        """Makes the services of this picture those that are looked after; the names of the `others` are taken.

        A container that was started again, or has another address, has its services withdrawn before they are checked
        again.
        """
        if self._terms != (terms, where):
            self._known, self._terms = {}, (terms, where)
        taken = {service.name for service in others}
        there = {_place(service): service.name for service in others}
        wanted: dict[str, Service] = {}
        runs: dict[str, _Run] = {}
        known = {}
        for container in sorted(now.containers.values(), key=lambda one: (one.name, one.id)):
            if not container.running:
                continue
            services, fault = self._asked(container, terms, where)
            known[container.id] = (container, services, fault)
            for service in services:
                if service.name in taken or service.name in wanted:
                    fault = f"there is another service called {service.name}: give one of them another name"
                elif (other := there.get(_place(service))) is not None:
                    fault = f"{service.name} is registered as {other} already: remove the labels or that service"
                else:
                    wanted[service.name] = service
                    instance = service.registration.instance
                    runs[service.name] = (container.id, container.started, instance.host, instance.port)
            self._tell(container, fault)
        self._known = known
        self._told = {one: fault for one, fault in self._told.items() if one in now.containers}
        if any(self._runs.get(name, run) != run for name, run in runs.items()):
            same = [service for name, service in wanted.items() if self._runs.get(name, runs[name]) == runs[name]]
            self._roster.change(same)
        self._roster.change(wanted.values())
        self._runs = runs
        if self._first is None:
            self._first = frozenset(wanted)

    def ready(self) -> Report:
        """Whether each service of the first picture has a first verdict that was reported, or is gone."""
        if self._first is None:
            return Report(False, ("labels: the Docker engine has not answered yet",))
        return self._roster.ready(self._first)

    def health(self) -> Report:
        """As the roster's."""
        return self._roster.health()

    def end(self) -> None:
        """Stops checking and withdraws all."""
        self._roster.end()

    def _asked(self, container: Container, terms: Terms, where: Where) -> tuple[tuple[Service, ...], str | None]:
        before = self._known.get(container.id)
        if before is not None and before[0] == container:
            return before[1], before[2]
        try:
            return services_of(container, terms, where), None
        except ConfigurationError as error:
            texts = [str(problem) for problem in error.problems[:_TOLD]]
            more = len(error.problems) - len(texts)
            return (), "; ".join((*texts, *([f"and {more} more"] if more else [])))

    def _tell(self, container: Container, fault: str | None) -> None:
        if fault is None:
            self._told.pop(container.id, None)
        elif self._told.get(container.id) != fault:
            self._told[container.id] = fault
            self._emit(Warn(f"the container {container.name} is skipped: {fault}"))


def _place(service: Service) -> tuple[object, ...]:
    instance = service.registration.instance
    return service.locator, service.registration.path, instance.host, str(instance.port)
