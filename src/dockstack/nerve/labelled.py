"""From a container's labels to services, as `-s` would make them: the same templates, models and checks."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dockstack import spec
from dockstack.docker.containers import Container
from dockstack.docker.labels import PREFIX, Labelled, labelled
from dockstack.documents import Document, EnvironmentText
from dockstack.errors import ConfigurationError, Problem
from dockstack.nerve.service import Look, Service, plan
from dockstack.registry import Locator
from dockstack.settings import loading


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator says of all labelled services: where they are registered, below `base`, as whom, and with which
    address (`host` and `advertise` as in a nerve file).

    `templates` are those of nerve by name, and `broken` says of a file that is none what is wrong with it.
    """

    instance_id: str
    locator: Locator
    base: str
    host: str | None
    advertise: str
    templates: Mapping[str, spec.Plain]
    broken: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def services_of(container: Container, terms: Terms, look: Look) -> tuple[Service, ...]:
    """The services that the container's labels ask for, named NAME@CONTAINER:PORT; they have no address yet.

    None where it has no such labels. Raises ConfigurationError with everything that is wrong.
    """
    problems: list[Problem] = []
    found: list[Service] = []
    for one in labelled(container):
        try:
            found += _services(one, container, terms, look)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
    return tuple(found)


def _services(one: Labelled, container: Container, terms: Terms, look: Look) -> tuple[Service, ...]:
    name = f"{one.name}@{container.name}:{one.port}"
    template = _template(one, terms)
    path, _ = spec.path_below(terms.base, one.path)
    asked = spec.Spec(name, name, one.check, one.port, path, container.name)
    plain = spec.nerve_service(asked, template, terms.host, terms.locator, path, advertise=terms.advertise)
    if one.options:
        plain["checks"] = _checks(one, template.get("checks"))
    if one.weight is not None:
        plain["weight"] = one.weight
    if one.labels:
        plain["labels"] = {**(template.get("labels") or {}), **dict(one.labels)}
    document = Document({"instance_id": terms.instance_id, "services": {name: plain}}, {})
    try:
        return plan(loading.nerve(document).settings, look)
    except ConfigurationError as error:
        raise ConfigurationError(*(_at_label(problem, name, one) for problem in error.problems)) from None


def _at_label(problem: Problem, name: str, one: Labelled) -> Problem:
    """A problem of the service's settings as one of the label that they come from."""
    own = f"services.{name}"
    labels = {f"{own}.checks[0].{'.'.join(steps)}": _option(one, steps) for steps, _ in one.options}
    rest = problem.where.removeprefix(own).removeprefix(".")
    other = f"{_label(one, 'check')}={one.check}{': ' if rest else ''}{rest}"
    return Problem(labels.get(problem.where, other), problem.what)


def _template(one: Labelled, terms: Terms) -> spec.Plain:
    found = terms.templates.get(one.check)
    if found is not None:
        return found
    if one.check in terms.broken:
        raise ConfigurationError(Problem(_label(one, "check"), terms.broken[one.check]))
    close = difflib.get_close_matches(one.check, list(terms.templates), 1)
    known = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(terms.templates))}"
    raise ConfigurationError(Problem(_label(one, "check"), f"unknown kind {one.check!r}{known}"))


def _checks(one: Labelled, checks: Any) -> list[Any]:
    """The template's checks, the first one with the options of the labels."""
    if not isinstance(checks, list) or not checks or not isinstance(checks[0], dict):
        steps, _ = one.options[0]
        raise ConfigurationError(Problem(_option(one, steps), f"the template {one.check} has no check that takes it"))
    first = dict(checks[0])
    for steps, text in one.options:
        value: Any = EnvironmentText(text)
        if len(steps) > 1:
            before = first.get(steps[0])
            value = {**(before if isinstance(before, dict) else {}), steps[1]: value}
        first[steps[0]] = value
    return [first, *checks[1:]]


def _option(one: Labelled, steps: tuple[str, ...]) -> str:
    return _label(one, ".".join(("check", *steps)))


def _label(one: Labelled, key: str) -> str:
    return f"label {PREFIX}{one.name}.{key}"
