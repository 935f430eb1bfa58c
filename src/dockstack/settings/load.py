"""From plain data to settings, or to everything that is wrong with them; and the files of `service_conf_dir`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from dockstack.documents import Document, Steps, read
from dockstack.errors import ConfigurationError, Problem
from dockstack.model import Address
from dockstack.settings import faults
from dockstack.settings.nerve import NerveSettings
from dockstack.settings.synapse import STATS_SECTION, HaproxySettings, ServiceHaproxy, SynapseSettings
from dockstack.settings.template import fault as template_fault

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """Settings that can be run, and what in them an operator should look at."""

    settings: T
    warnings: tuple[Problem, ...] = ()


def nerve(document: Document, unknown_keys_are_warnings: bool = False) -> Loaded[NerveSettings]:
    """The nerve file; raises ConfigurationError with all problems."""
    return _load(NerveSettings, document, unknown_keys_are_warnings)


def synapse(document: Document, unknown_keys_are_warnings: bool = False) -> Loaded[SynapseSettings]:
    """The synapse file; raises ConfigurationError with all problems, those between its parts included."""
    loaded = _load(SynapseSettings, document, unknown_keys_are_warnings)
    found = tuple(_contradictions(loaded.settings, document))
    if found:
        raise ConfigurationError(*found)
    return loaded


def with_service_files(document: Document, env: Mapping[str, str]) -> Document:
    """The document with the services of its `service_conf_dir`, each in a file of its name, which win.

    The directory is relative to the working directory. Raises ConfigurationError when it or a file cannot be read.
    """
    named = document.data.get("service_conf_dir")
    if not isinstance(named, str):
        return document
    directory = Path(named)
    if not directory.is_dir():
        where = document.where(("service_conf_dir",))
        raise ConfigurationError(Problem(where, f"{directory.absolute()} is no directory; make it or remove the key"))
    problems: list[Problem] = []
    for file in sorted(file for ending in ("*.json", "*.yaml") for file in directory.glob(ending)):
        try:
            document = document.with_part(("services", file.stem), read(file, env))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
    return document


def _load(model: type[T], document: Document, lenient: bool) -> Loaded[T]:
    warnings = list(document.warnings)
    data = document.data
    try:
        settings = model.model_validate(data)
    except ValidationError as error:
        unknown = faults.unknown_keys(error, data)
        if not (lenient and unknown):
            raise ConfigurationError(*faults.problems(error, model, document)) from None
        warnings += [Problem(document.where(steps), "unknown key, ignored") for steps in unknown]
        data = faults.without(data, unknown)
        try:
            settings = model.model_validate(data)
        except ValidationError as remaining:
            raise ConfigurationError(*faults.problems(remaining, model, document.with_data(data))) from None
    quoted = faults.quoted_numbers(settings, data)
    if quoted:
        named = ", ".join(faults.spelled(steps) for steps in quoted[:3]) + (" …" if len(quoted) > 3 else "")
        warnings.append(Problem(document.where(()), f"numbers in quotes are read as numbers: {named}"))
    return Loaded(settings, tuple(warnings))


def _contradictions(settings: SynapseSettings, document: Document) -> Iterator[Problem]:
    if settings.haproxy is None and settings.file_output is None:
        yield Problem(document.where(()), "there is no output: give a `haproxy` or a `file_output` section")
    haproxy = settings.haproxy
    if haproxy is not None:
        yield from _incomplete(haproxy, document)
    binds: dict[str, str] = {}
    for name, service in settings.services.items():
        yield from _templates(name, service.haproxy, document, ("services", name, "haproxy", "server_options"))
        for index, server in enumerate(service.default_servers):
            steps = ("services", name, "default_servers", index, "haproxy_server_options")
            yield from _template(server.haproxy_server_options, document, steps)
        if haproxy is not None and (bind := bind_of(haproxy, service.haproxy)) is not None:
            if bind in binds:
                where = document.where(("services", name, "haproxy"))
                yield Problem(where, f"{name} would bind {bind}, as {binds[bind]} does; give one of them another port")
            binds.setdefault(bind, name)
    if haproxy is not None:
        yield from _hidden(haproxy, binds, document)


def _hidden(haproxy: HaproxySettings, binds: Mapping[str, str], document: Document) -> Iterator[Problem]:
    """The statistics page on a port of a service: HAProxy would take both, and one would hide the other."""
    pages = [line.split()[1] for line in haproxy.extra_sections.get(STATS_SECTION, ()) if line.startswith("bind ")]
    for page in pages:
        host, _, port = page.rpartition(":")
        for bind, name in binds.items():
            other, _, taken = bind.rpartition(":")
            if port == taken and (host == other or {host, other} & {"0.0.0.0", "*", "::", "[::]", ""}):
                where = document.where(("services", name, "haproxy"))
                yield Problem(where, f"{name} binds {bind}, where the statistics page is: move it, or --stats off")


def _incomplete(haproxy: HaproxySettings, document: Document) -> Iterator[Problem]:
    where = document.where(("haproxy",))
    if haproxy.do_writes and not haproxy.config_file_path:
        yield Problem(where, "config_file_path is missing: name the file to write, or set do_writes to false")
    if haproxy.do_socket and not haproxy.socket_file_path:
        yield Problem(where, "socket_file_path is missing: name HAProxy's stats socket, or set do_socket to false")
    if haproxy.do_checks and haproxy.check_command is None and not haproxy.do_writes:
        yield Problem(where, "do_checks needs do_writes: there is no file to check")


def _templates(name: str, service: ServiceHaproxy, document: Document, steps: Steps) -> Iterator[Problem]:
    yield from _template(service.server_options, document, steps)


def _template(text: str | None, document: Document, steps: Steps) -> Iterator[Problem]:
    wrong = template_fault(text) if text else None
    if wrong is not None:
        yield Problem(document.where(steps), wrong)


def bind_of(haproxy: HaproxySettings, service: ServiceHaproxy) -> str | None:
    """What a service's frontend binds, as HAProxy's line has it; None for a service without a frontend."""
    if service.disabled or not service.listens:
        return None
    address = service.bind_address or haproxy.bind_address
    return address if service.port is None else str(Address(address.strip("[]"), int(service.port)))


def as_plain(settings: BaseModel) -> dict[str, Any]:
    """The settings as a file would hold them, without what was not given."""
    return settings.model_dump(by_alias=True, exclude_unset=True, mode="json")
