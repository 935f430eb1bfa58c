"""One service: its settings made ready to run, and the loop that checks it on a fixed pace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dockstack import plugins
from dockstack.docker.containers import Picture
from dockstack.errors import ConfigurationError, Problem
from dockstack.events import Emit
from dockstack.model import Address
from dockstack.nerve import probe
from dockstack.nerve.checks.http import warnings
from dockstack.nerve.events import Broken
from dockstack.nerve.judge import History, Rule, all_up
from dockstack.nerve.names import Names
from dockstack.nerve.probe import Outcome, Probe
from dockstack.nerve.registration import locator_of, registration_of
from dockstack.registry import Locator, Registration, load
from dockstack.runtime.loops import beats
from dockstack.settings.copies import spread
from dockstack.settings.nerve import (
    AnyService,
    Check,
    ContainerService,
    DockerCheck,
    ExecCheck,
    HttpCheck,
    NerveService,
    NerveSettings,
    NoopCheck,
    PluginCheck,
)

Look = Callable[[], Picture | None]
"""Gives the newest picture of the Docker engine's containers; None while there is none."""

FIRST_WAIT = 0.0006
"""Seconds between the first checks of two services: a service must not be unknown for longer than needed, and too many
checks and registrations at once would be late, and look like failures."""


@dataclass(frozen=True, slots=True)
class Start:
    """When a service is checked for the first time, and where the grid of its checks begins; in seconds from now."""

    first: float = 0.0
    phase: float = 0.0

    @staticmethod
    def of(place: int, count: int, interval: float) -> Start:
        """For the service with this place among so many that start together: their checks are spread over the whole
        interval, but the first ones are not waited for so long, only as the machine can do them."""
        share = place / count
        return Start(min(interval, FIRST_WAIT * count) * share, interval * share)


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a service has no address that could be checked. `known` is false while nobody has looked for one; a `fault`
    does not go away by itself."""

    what: str
    reason: str
    known: bool = True
    fault: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A service as nerve runs it; equal values need no restart. The probes follow from the settings.

    While `absence` is not None it is down without a check, and what is registered and checked has no address yet.
    `run` is another one for each start of the service where that can be told: then it is checked anew.
    """

    name: str
    settings: AnyService
    locator: Locator
    registration: Registration
    probes: tuple[Probe, ...] = field(compare=False)
    warnings: tuple[str, ...] = field(compare=False)
    absence: Absence | None = None
    run: str = ""

    @property
    def address(self) -> Address:
        """Where it is registered, and checked unless a check says otherwise."""
        return self.registration.instance.address


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of checks said: is the service up (None: not known yet). `absence`: why there was none."""

    up: bool | None
    outcomes: tuple[Outcome, ...] = ()
    absence: Absence | None = None

    @property
    def failure(self) -> Outcome | None:
        """The result that makes the service not up, or None."""
        return next((outcome for outcome in reversed(self.outcomes) if not outcome.healthy), None)


def plan(settings: NerveSettings, look: Look = lambda: None) -> tuple[Service, ...]:
    """The services of a nerve file, ready to run, those of containers without an address; `look` gives the newest
    picture of the containers. Raises ConfigurationError with the problems of all services."""
    services, problems = [], []
    locators: dict[Locator, Locator] = {}  # one object for equal ones: there are as many as services
    for name, service in settings.services.items():
        found: list[Problem] = []
        locator, registration = None, None
        known = _anywhere(service) if isinstance(service, ContainerService) else service
        try:
            registration = registration_of(name, settings.instance_id, known)
        except ValueError as error:
            found.append(Problem(f"services.{name}", str(error)))
        try:
            locator = locator_of(service)
            locator = locators.setdefault(locator, locator)
            load(locator.scheme)  # here, where no check waits: an import holds the event loop up
        except ValueError as error:
            found.append(Problem(f"services.{name}", str(error)))
        try:
            ready = probes(name, service, Address(known.host, int(known.port)), look)
        except ConfigurationError as error:
            found.extend(error.problems)
        if locator and registration and not found:
            absence = _unseen(service) if isinstance(service, ContainerService) else None
            one = Service(name, service, locator, registration, ready, _warnings(name, service), absence)
            copies = [_copy(one, each, own) for each, own in spread({name: service}).items()]
            services += [copies[0], *(replace(copy, warnings=()) for copy in copies[1:])]
        problems.extend(found)
    if problems:
        raise ConfigurationError(*problems)
    return tuple(services)


def probes(name: str, service: AnyService, address: Address, look: Look) -> tuple[Probe, ...]:
    """The checks of the service at this address. Raises ConfigurationError with what is wrong with each."""
    found: list[Probe] = []
    problems: list[Problem] = []
    for place, check in enumerate(service.checks):
        try:
            own = _of_container(check, service)
            target = Address(check.host or address.host, int(check.port or address.port))
            found.append(_probe(name, own, target, look, f"services.{name}.checks[{place}]"))
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(*problems)
    return tuple(found)


def _anywhere(service: ContainerService) -> NerveService:
    return service.at(Address(service.host or "127.0.0.1", int(service.container_port)))


def _unseen(service: ContainerService) -> Absence:
    return Absence(f"container {service.container}", "the Docker engine has not answered yet", known=False)


def _copy(service: Service, name: str, settings: AnyService) -> Service:
    registration = replace(service.registration, key=name)
    named = tuple(
        probe if check.name else replace(probe, name=_default_name(name, check, probe.target))
        for check, probe in zip(settings.checks, service.probes, strict=True)
    )
    return replace(service, name=name, settings=settings, registration=registration, probes=named)


def _probe(name: str, check: Check, target: Address, look: Look, where: str) -> Probe:
    if check.module in plugins.built_in("checks"):
        raise ConfigurationError(Problem(where, f"module {check.module} is built in: write it as the type, alone"))
    build = plugins.load("checks", check.module or check.type, where)
    try:
        ready = build(check, target, look) if isinstance(check, DockerCheck) else build(check, target)
    except (ValueError, OSError) as error:
        raise ConfigurationError(Problem(where, str(error))) from error
    return Probe(
        check.name or _default_name(name, check, target),
        ready,
        target,
        check.deadline,
        Rule(check.rise, check.fall, check.strict_rise),
        connects=not isinstance(check, ExecCheck | NoopCheck | DockerCheck | PluginCheck),
    )


def _of_container(check: Check, service: AnyService) -> Check:
    if isinstance(check, DockerCheck) and check.container is None and isinstance(service, ContainerService):
        return check.model_copy(update={"container": service.container})
    return check


def _default_name(service: str, check: Check, target: Address) -> str:
    if isinstance(check, HttpCheck):
        return f"http-{target.host}:{target.port}{check.uri}"
    return f"{service} {check.type}-{target.host}:{target.port}"


def _warnings(name: str, service: AnyService) -> tuple[str, ...]:
    return tuple(
        f"services.{name}.checks[{place}]: {text}"
        for place, check in enumerate(service.checks)
        if isinstance(check, HttpCheck)
        for text in warnings(check)
    )


async def watch(service: Service, start: Start, tell: Callable[[Round], bool], emit: Emit, names: Names) -> None:
    """Checks the service each `check_interval` seconds, as `start` says for the first time; tells each round.

    A service that is absent, or that has nothing to check, is told at once, and on the same pace.

    Ends when `tell` answers that nobody listens any more: a check of somebody else's may swallow its cancellation.
    """
    interval = service.settings.check_interval
    settled = _settled(service)
    if settled is not None:
        if tell(settled):
            async for _ in beats(interval, interval + start.phase):
                if not tell(settled):
                    break
        return
    probes = service.probes
    histories = tuple(History() for _ in probes)
    broken: set[str] = set()
    async for _ in beats(interval, start.first, start.phase):
        histories, outcomes = await probe.run(probes, histories, names)
        for outcome in outcomes:
            if outcome.bug and outcome.check not in broken:
                broken.add(outcome.check)
                emit(Broken(service.name, outcome.check, outcome.bug))
        if not tell(Round(all_up(histories), outcomes)):
            return


def _settled(service: Service) -> Round | None:
    """Each round of a service that nobody has to be asked about: it is absent, or has nothing to check."""
    absence = service.absence
    if absence is not None:
        return Round(False if absence.known else None, (Outcome(absence.what, False, absence.reason),), absence)
    return None if service.probes and not service.settings.check_mocked else Round(True)
