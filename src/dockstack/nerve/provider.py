"""Keeps a roster equal to what the labels of all running containers ask for."""

from __future__ import annotations

from collections.abc import Iterable

from dockstack.admin.report import Report
from dockstack.docker.containers import Container, Picture
from dockstack.errors import ConfigurationError, Problem
from dockstack.events import Emit, Warn
from dockstack.nerve.labelled import Terms, services_of
from dockstack.nerve.placing import placed
from dockstack.nerve.roster import Roster
from dockstack.nerve.service import Look, Service

_TOLD = 5  # faults of a container that are told at once


class Provider:
    """Has the services of labels in a roster of their own; what a picture does not change is left alone there.

    `own` is the id of nerve's own container, if it is in one.
    """

    def __init__(self, roster: Roster, look: Look, own: str | None, emit: Emit) -> None:
        self._roster = roster
        self._look = look
        self._own = own
        self._emit = emit
        self._terms: Terms | None = None  # those by which the known ones were made
        self._known: dict[str, tuple[Container, tuple[Service, ...] | str]] = {}  # by container: services or fault
        self._told: dict[str, str] = {}  # the last fault of each container
        self._now: dict[str, Service] = {}
        self._first: frozenset[str] | None = None  # the services of the first picture

    def see(self, others: Iterable[Service], terms: Terms | None) -> None:
        """Makes the services of the newest picture those that are looked after; the names of the `others` are taken.

        A container that was started again, or has another address, has its services withdrawn before they are checked
        again. Without terms labels do not count.
        """
        picture = self._look()
        if picture is None or terms is None:
            self._roster.change(())
            return
        if terms != self._terms:
            self._known, self._terms = {}, terms
        wanted, faults = self._wanted(picture, tuple(others), terms)
        self._tell(picture, faults)
        before, self._now = self._now, wanted
        if any(_run(service) != _run(before.get(name, service)) for name, service in wanted.items()):
            self._roster.change(one for name, one in wanted.items() if _run(one) == _run(before.get(name, one)))
        self._roster.change(wanted.values())
        if self._first is None:
            self._first = frozenset(wanted)

    def faults(self, terms: Terms) -> tuple[Problem, ...]:
        """What would be wrong, by these terms, with containers that are well by the present ones."""
        found: list[Problem] = []
        for container, services in self._known.values():
            try:
                _ = () if isinstance(services, str) else services_of(container, terms, self._look)
            except ConfigurationError as error:
                found += (Problem(f"container {container.name}: {one.where}", one.what) for one in error.problems)
        return tuple(found)

    def ready(self) -> Report:
        """Whether each service of the first picture has a first verdict that was reported, or is gone."""
        if self._first is None:
            return Report(False, ("labels: the Docker engine has not answered yet",))
        return self._roster.ready(self._first)

    def health(self) -> Report:
        """As the roster's, and what is skipped."""
        report = self._roster.health()
        return Report(report.ok, (*report.lines, *(f"degraded: {fault}" for fault in self._told.values())))

    def end(self) -> None:
        """Stops checking and withdraws all."""
        self._roster.end()

    def _wanted(
        self, picture: Picture, others: tuple[Service, ...], terms: Terms
    ) -> tuple[dict[str, Service], dict[str, str]]:
        """The services by name, and by container a sentence on what is skipped of it, and why."""
        running = sorted((one for one in picture.containers.values() if one.running), key=lambda one: one.name)
        self._known = {one.id: (one, self._asked(one, terms)) for one in running}
        taken = {service.name for service in others}
        there = {_place(service): service.name for service in others if service.absence is None}
        wanted: dict[str, Service] = {}
        faults: dict[str, str] = {}
        for container, services in self._known.values():
            if isinstance(services, str):
                faults[container.id] = f"the container {container.name} is skipped: {services}"
                continue
            skipped: list[str] = []
            for service in placed(services, self._look, self._own, self._now):
                if (absence := service.absence) is not None:
                    skipped += [f"{service.name} is skipped: {absence.what} {absence.reason}"] if absence.fault else []
                elif service.name in taken:
                    what = "there is another service of this name; give one of them another"
                    skipped.append(f"{service.name} is skipped: {what}")
                elif (other := there.get(_place(service))) is not None:
                    what = f"it is registered as {other} already; remove the labels or that service"
                    skipped.append(f"{service.name} is skipped: {what}")
                else:
                    wanted[service.name] = service
            if skipped:
                faults[container.id] = "; ".join(skipped)
        return wanted, faults

    def _asked(self, container: Container, terms: Terms) -> tuple[Service, ...] | str:
        before = self._known.get(container.id)
        if before is not None and before[0] == container:
            return before[1]
        try:
            return services_of(container, terms, self._look)
        except ConfigurationError as error:
            texts = [str(problem) for problem in error.problems[:_TOLD]]
            more = len(error.problems) - len(texts)
            return "; ".join((*texts, *([f"and {more} more"] if more else [])))

    def _tell(self, picture: Picture, faults: dict[str, str]) -> None:
        """Each fault once; a container that does not run has not mended its own."""
        for one, fault in faults.items():
            if self._told.get(one) != fault:
                self._emit(Warn(fault))
        kept = {
            one: fault
            for one, fault in self._told.items()
            if one in picture.containers and not picture.containers[one].running
        }
        self._told = kept | faults


def _run(service: Service) -> tuple[object, ...]:
    return service.run, service.address


def _place(service: Service) -> tuple[object, ...]:
    return service.locator, service.registration.path, service.address
