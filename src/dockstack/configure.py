"""From the command line, the environment and the files to settings: reads what `spec` and `settings` decide about."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack import runnable, spec, templates
from dockstack.docker import engine
from dockstack.docker.address import advertise_fault
from dockstack.documents import Document, read
from dockstack.errors import ConfigurationError, Problem
from dockstack.registry import Locator, load, tls
from dockstack.settings import loading
from dockstack.settings.loading import Loaded
from dockstack.settings.nerve import NerveSettings

if TYPE_CHECKING:
    from dockstack.nerve.labelled import Terms
    from dockstack.settings.synapse import SynapseSettings

STATISTICS = "127.0.0.1:8080"
"""Where HAProxy's read-only page is unless the command line says otherwise."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says about the configuration, for either role."""

    config: str | None = None
    discovery: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    raws: tuple[str, ...] = ()
    templates: tuple[Path, ...] = ()
    session_timeout: float | None = None
    unknown_keys_are_warnings: bool = False
    advertise: str = "host"
    docker: bool = False


def settings_file(given: Given, default: str | None) -> Path | None:
    """The file that the settings are in, if it is one and no base configuration; `default`: the environment's."""
    config = given.config or default
    return Path(config) if config and ("/" in config or Path(config).exists()) else None


def nerve(given: Given, instance_id: str | None, env: Mapping[str, str], check: bool = False) -> Loaded[NerveSettings]:
    """Nerve's settings; to `check` them, with the warnings that the daemon gives itself when it takes up a service.
    Raises ConfigurationError with everything that is wrong."""
    from dockstack.nerve.placing import needs_engine

    config = given.config or env.get("NERVE_CONFIG")
    if not config and not given.services and not given.docker:
        raise _nothing_to_do("nerve -d zk://127.0.0.1:2181/nerve -s mysql:mysql:3306:/mysql")
    file = document = _file(config, env)
    texts = _unused(given)
    if given.services:
        document, texts = _with_nerve_services(document, given, env)
    document = _with_changes(document, given.raws)
    named = instance_id or env.get("NERVE_INSTANCE_ID") or document.data.get("instance_id")
    if not named and (given.services or given.docker):
        named = env.get("INSTANCE_ID") or "nerve"
    if named:
        document = document.with_data({**document.data, "instance_id": named})
    with _read_as("nerve", config, file):
        loaded = runnable.nerve(document, given.unknown_keys_are_warnings, texts, check)
    if given.docker or needs_engine(loaded.settings):
        engine.named(env)
        engine.load()
    if given.docker:
        label_terms(given, loaded.settings.instance_id, env)
    return loaded


def label_terms(given: Given, instance_id: str, env: Mapping[str, str]) -> Terms:
    """What counts for the services of labels. Raises ConfigurationError with what is wrong."""
    from dockstack.nerve.labelled import Terms

    host = _service_host("--docker", given, env, needed=given.advertise == "host")
    locator, base = _registry("--docker", given)
    load(locator.scheme)
    found: dict[str, spec.Plain] = {}
    broken: dict[str, str] = {}
    directories = templates.directories(given.templates)
    for kind in templates.types("nerve", directories):
        try:
            document = templates.template("nerve", kind, directories, env)
        except ConfigurationError as error:
            broken[kind] = "; ".join(map(str, error.problems))
            continue
        if document is not None:
            found |= runnable.with_modules(Document({"services": {kind: document.data}}, {})).data["services"]
    return Terms(instance_id, locator, base, host, given.advertise, found, broken)


@dataclass(frozen=True, slots=True)
class Ambassador:
    """What the command line says about HAProxy; `run_dir` is where its files go. `stats` is HOST:PORT or `off`; None: a
    base configuration without a page of its own gets one."""

    run_dir: Path
    bind: str | None = None
    stats: str | None = None


def synapse(given: Given, ambassador: Ambassador, env: Mapping[str, str]) -> Loaded[SynapseSettings]:
    """Synapse's settings. Raises ConfigurationError with everything that is wrong."""
    config = given.config or env.get("SYNAPSE_CONFIG")
    if not config and not given.services:
        raise _nothing_to_do("synapse -d zk://127.0.0.1:2181/nerve -s mysql:mysql:/mysql")
    directories = templates.directories(given.templates)
    file, is_base = _base(config, directories, env)
    document = file
    texts = _unused(given)
    if given.services:
        document, texts = _with_synapse_services(document, given, directories, env)
    if is_base and document.data.get("service_conf_dir") is not None:
        what = (
            "is not looked at in a base configuration: give it as a file, with its directory, if its services are meant"
        )
        texts = [*texts, Problem(document.where(("service_conf_dir",)), what)]
    document = _with_changes(document, given.raws)
    drives_haproxy = is_base or document.data.get("haproxy") is not None
    if given.services and drives_haproxy:
        spec.without_port(document.data["services"], spec.specs(spec.parse_synapse, given.services))
    stats = None if ambassador.stats is None else spec.stats_address(ambassador.stats)
    bind = None if ambassador.bind is None else spec.bind_address(ambassador.bind)
    if drives_haproxy and (is_base or given.services):
        around = spec.Surroundings(str(ambassador.run_dir), _file_limit(), _user() if is_base else None)
        document = document.with_data(spec.base(document.data, around))
    if is_base and ambassador.stats is None and not spec.has_statistics(document.data):
        stats = STATISTICS
    document = document.with_data(spec.ambassador(document.data, bind, stats))
    with _read_as("synapse", config, file):
        return runnable.synapse(document, given.unknown_keys_are_warnings, texts)


def file(path: Path, role: str | None, lenient: bool, env: Mapping[str, str]) -> Loaded[Any]:
    """The settings of a file alone, for `check`; without a role, that of its keys. For synapse the warnings name also
    what is different from the old tools. Raises ConfigurationError with everything that is wrong."""
    document = loading.with_service_files(read(path, env), env)
    if (role or _role(document)) == "nerve":
        return runnable.nerve(document, lenient, (), check=True)
    loaded = runnable.synapse(document, lenient, ())
    if loaded.settings.haproxy is None:
        return loaded
    from dockstack.synapse.haproxy.document import Layout

    found = Layout(loaded.settings.haproxy, (), "").frame(loaded.settings.services)
    newer = (text for skeleton in found.skeletons.values() for text in skeleton.newer)
    said = (Problem(str(path), text) for text in (*found.warnings, *newer))
    return replace(loaded, warnings=(*loaded.warnings, *said))


def _role(document: Document) -> str:
    services = document.data.get("services")
    inner = list(services.values()) if isinstance(services, dict) else []
    found = {"haproxy", "file_output"} & document.data.keys() or any(
        isinstance(one, dict) and "discovery" in one for one in inner
    )
    return "synapse" if found else "nerve"


@contextmanager
def _read_as(role: str, config: str | None, document: Document) -> Iterator[None]:
    """Says it first where a file that is refused is the other role's, as it seems."""
    try:
        yield
    except ConfigurationError as error:
        other = "synapse" if role == "nerve" else "nerve"
        seems = "instance_id" in document.data if other == "nerve" else "instance_id" not in document.data
        if config is None or not seems or _role(document) != other:
            raise
        what = f"seems to be a file of {other}'s: dockstack {other} -c {config}"
        raise ConfigurationError(Problem(config, what), *error.problems) from None


def _with_nerve_services(document: Document, given: Given, env: Mapping[str, str]) -> tuple[Document, list[Problem]]:
    wanted = spec.specs(spec.parse_nerve, given.services, tuple(_services(document)))
    needed = given.advertise == "host" or any(one.container is None for one in wanted)
    host = _service_host("-s", given, env, needed=needed)
    locator, base = _registry("-s", given)
    directories = templates.directories(given.templates)
    warnings: list[Problem] = []
    for one in wanted:
        template = _template("nerve", one, directories, env)
        plain = spec.nerve_service(
            one, template.data, host, locator, _path(one, base, warnings), advertise=given.advertise
        )
        document = document.with_part(("services", one.name), template.with_data(plain))
    return document, warnings


def _with_synapse_services(
    document: Document, given: Given, directories: tuple[Path, ...], env: Mapping[str, str]
) -> tuple[Document, list[Problem]]:
    taken = tuple(_services(document))
    locator, base = _registry("-s", given)
    warnings: list[Problem] = []
    for one in spec.specs(spec.parse_synapse, given.services, taken):
        template = _template("synapse", one, directories, env)
        plain = spec.synapse_service(template.data, locator, _path(one, base, warnings))
        document = document.with_part(("services", one.name), template.with_data(plain))
    return document, warnings


def _service_host(option: str, given: Given, env: Mapping[str, str], *, needed: bool) -> str | None:
    if (fault := advertise_fault(given.advertise)) is not None:
        raise ConfigurationError(Problem("--advertise", fault))
    host = env.get("SERVICE_HOST") or None
    if host is None and needed:
        what = f"is not set: with {option} it is the address under which others reach this host's services"
        raise ConfigurationError(Problem("SERVICE_HOST", what))
    return host


def _registry(option: str, given: Given) -> tuple[Locator, str]:
    """The registry of the command line, which the option needs, and its BASE path."""
    registry = spec.discovery(given.discovery, option)
    assert registry is not None
    locator, base = registry
    if locator.tls is not None and (said := tls.fault(locator.tls)) is not None:
        raise ConfigurationError(Problem("-d", said))
    if given.session_timeout is not None:
        locator = replace(locator, session_timeout=given.session_timeout)
    return locator, base


def _unused(given: Given) -> list[Problem]:
    """A registry on the command line is for the services there; without any it is doubted, and still must be one."""
    if given.services or given.docker or spec.discovery(given.discovery) is None:
        return []
    return [Problem("-d", "has no effect without -s; the services of a file name their own registries")]


def _path(one: spec.Spec, base: str, warnings: list[Problem]) -> str:
    path, doubt = spec.path_below(base, one.path)
    if doubt:
        warnings.append(Problem(one.where, doubt))
    return path


def _template(role: str, one: spec.Spec, directories: tuple[Path, ...], env: Mapping[str, str]) -> Document:
    """The template behind TYPE; a value stands where the user wrote it: in the -s, and in a file of theirs."""
    found = templates.template(role, one.type, directories, env)
    data = spec.template_of(one, None if found is None else found.data, templates.types(role, directories))
    theirs = {} if found is None or found.places[()] == templates.OURS else found.places
    return Document(data, {steps: f"{one.where}: {place}" for steps, place in theirs.items()} | {(): one.where})


def _services(document: Document) -> dict[str, Any]:
    services = document.data.get("services")
    if services is not None and not isinstance(services, dict):
        raise ConfigurationError(Problem(document.where(("services",)), "must be a map"))
    return services or {}


def _file(config: str | None, env: Mapping[str, str]) -> Document:
    if not config:
        return Document({}, {})
    return loading.with_service_files(read(Path(config), env), env)


def _base(config: str | None, directories: tuple[Path, ...], env: Mapping[str, str]) -> tuple[Document, bool]:
    """The file, or the base configuration of that name; and whether it is one of those."""
    name = config or "default"
    if "/" not in name and not Path(name).exists():
        found = templates.template("base", name, directories, env)
        if found is not None:
            return found, True
    if "/" not in name and not Path(name).exists() and not Path(name).suffix:
        known = ", ".join(templates.types("base", directories))
        raise ConfigurationError(
            Problem(f"-c {name}", f"is neither a file nor a base configuration; base configurations: {known}")
        )
    return _file(name, env), False


def _with_changes(document: Document, raws: tuple[str, ...]) -> Document:
    if not raws:
        return document
    after = spec.changed(_services(document), raws, _jq)
    for name in dict.fromkeys(raw.partition(":")[0] for raw in raws):
        steps = ("services", name)
        place = ", ".join((document.places[steps], *(f"-r {raw}" for raw in raws if raw.startswith(f"{name}:"))))
        document = document.with_part(steps, Document(after[name], {(): place}))
    return document


def _jq(program: str, value: dict[str, Any]) -> dict[str, Any]:
    import jq

    try:
        results = list(islice(jq.compile(program).input_value(value), 2))
    except ValueError as error:
        raise ValueError(f"jq: {' '.join(str(error).replace('jq: ', '').split())}") from None
    if len(results) != 1 or not isinstance(results[0], dict):
        raise ValueError("the program must give one object: the service with its changes, as '.check_interval=5' does")
    return results[0]


def _file_limit() -> int:
    from dockstack.runtime.process import raise_file_limit

    return raise_file_limit()


def _user() -> str | None:
    """The user that HAProxy gives itself up to: `haproxy`, if we are root and both user and group exist."""
    import grp
    import pwd

    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam("haproxy")
        grp.getgrnam("haproxy")
    except KeyError:
        return None
    return "haproxy"


def _nothing_to_do(example: str) -> ConfigurationError:
    return ConfigurationError(
        Problem("command line", f"there is nothing to do: give a file with -c FILE, or services: dockstack {example}")
    )
