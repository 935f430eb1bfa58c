"""DockStack's own command line: `-d` a registry, `-s` services, `-r` changes to them, as a nerve or synapse file would
hold them. Pure; jq is only a function here.

    nerve    -d zk://h1,h2/BASE   -s NAME:TYPE:PORT:PATH   (or NAME:TYPE:CONTAINER:CONTAINER_PORT:PATH)
    synapse  -d zk://h1,h2/BASE   -s NAME:TYPE:PATH
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dockstack.errors import ConfigurationError, Problem
from dockstack.registry import Locator
from dockstack.registry.url import fold, is_host, parse_url, redacted
from dockstack.settings.common import STATS_SECTION

_REGISTRYS = {"method", "hosts", "port", "directory", "path", "auth", "tls", "session_timeout"}
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")
_NERVES = re.compile(r"(?:[^:/]+:)?[0-9]+:")  # what stands before the path in the -s of nerve

Plain = dict[str, Any]
Jq = Callable[[str, Plain], Plain]
"""Runs a jq program on a dictionary; raises ValueError with the reason when the outcome is no dictionary."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One `-s`, taken apart: `text` is what the user wrote. `port` is None for synapse; where a `container` is named it
    is the container's own."""

    text: str
    name: str
    type: str
    port: int | None
    path: str
    container: str | None = None

    @property
    def where(self) -> str:
        return f"-s {self.text}"


def parse_nerve(text: str) -> Spec:
    """NAME:TYPE:PORT:PATH, or NAME:TYPE:CONTAINER:CONTAINER_PORT:PATH. Raises ConfigurationError."""
    where, parts = f"-s {text}", text.split(":", 2)
    if len(parts) < 3:
        raise _fault(where, "is not NAME:TYPE:PORT:PATH")
    name, kind, rest = parts
    first, _, behind = rest.partition(":")
    if _is_number(first):
        if ":" not in rest:
            raise _fault(where, "has no path: NAME:TYPE:PORT:PATH is meant")
        return _checked(Spec(text, name, kind, _port(where, first), behind))
    port, colon, path = behind.partition(":")
    if not colon or not _is_number(port):
        raise _fault(where, "is neither NAME:TYPE:PORT:PATH nor NAME:TYPE:CONTAINER:CONTAINER_PORT:PATH")
    if not _CONTAINER.fullmatch(first):
        raise _fault(where, f"{first!r} is no name of a container: letters, digits and _ . -, two at least, are meant")
    return _checked(Spec(text, name, kind, _port(where, port), path, first))


def parse_synapse(text: str) -> Spec:
    """NAME:TYPE:PATH. Raises ConfigurationError."""
    parts = text.split(":", 2)
    if len(parts) < 3:
        raise _fault(f"-s {text}", "is not NAME:TYPE:PATH")
    if (nerves := _NERVES.match(parts[2])) is not None:
        ours = f"{parts[0]}:{parts[1]}:{parts[2][nerves.end() :]}"
        raise _fault(f"-s {text}", f"has a port, as nerve's have; synapse takes NAME:TYPE:PATH: {ours}")
    return _checked(Spec(text, parts[0], parts[1], None, parts[2]))


def specs(parse: Callable[[str], Spec], texts: Sequence[str], taken: Sequence[str] = ()) -> tuple[Spec, ...]:
    """All `-s`, or every problem with them; `taken` are the names that a file has already."""
    found: list[Spec] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            one = parse(text)
        except ConfigurationError as error:
            problems += error.problems
            continue
        if one.name in (*taken, *(other.name for other in found)):
            problems.append(Problem(one.where, f"there are two services called {one.name}; names must differ"))
        found.append(one)
    if problems:
        raise ConfigurationError(*problems)
    return tuple(found)


def discovery(urls: Sequence[str], needed: str | None = None) -> tuple[Locator, str] | None:
    """The registry of the last `-d` and its BASE path; `needed`: what needs one. Raises ConfigurationError."""
    if not urls:
        if needed:
            what = f"is missing: with {needed} name the registry, for example -d zk://127.0.0.1:2181/nerve"
            raise _fault("-d", what)
        return None
    try:
        locator, base = parse_url(urls[-1])
    except ValueError as error:
        raise _fault(f"-d {redacted(urls[-1])}", str(error)) from None
    if locator.scheme not in ("zookeeper", "etcd", "file"):
        raise _fault(f"-d {redacted(urls[-1])}", f"{locator.scheme} is for tests: use zk://…, etcd://… or file:///…")
    return locator, base


def path_below(base: str, path: str) -> tuple[str, str | None]:
    """BASE and PATH joined as text, as the old tool did, and a warning where that is seldom meant."""
    joined = fold(base + path)
    if joined == fold(f"{base}/{path}"):
        return joined, None
    return joined, f"PATH is appended as it is: {joined} is used; write /{path} for {fold(f'{base}/{path}')}"


def nerve_service(
    spec: Spec, template: Plain, host: str | None, locator: Locator, path: str, *, advertise: str = "host"
) -> Plain:
    """The nerve file's entry for one `-s`; `advertise`: which address of a container is registered."""
    where: Plain = {} if host is None else {"host": host}
    if spec.container is None:
        where |= {"port": spec.port}
    else:
        where |= {"container": spec.container, "container_port": spec.port, "advertise": advertise}
    return {**template, **where, **_reporter(locator, path)}


def synapse_service(template: Plain, locator: Locator, path: str) -> Plain:
    """The synapse file's entry for one `-s`; what else the template says of the discovery stays."""
    said = template.get("discovery")
    kept = {key: said[key] for key in said if key not in _REGISTRYS} if isinstance(said, dict) else {}
    return {**template, "discovery": {**kept, **_discovery(locator, path)}}


def template_of(spec: Spec, found: Plain | None, known: Sequence[str]) -> Plain:
    """The template behind TYPE. Raises ConfigurationError, naming those that there are."""
    if found is None:
        close = difflib.get_close_matches(spec.type, known, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise _fault(spec.where, f"unknown TYPE {spec.type!r}; known: {', '.join(known)}{hint}")
    return found


def changed(services: Mapping[str, Plain], raws: Sequence[str], jq: Jq) -> dict[str, Plain]:
    """The services after all `-r NAME:JQ`, in order. Raises ConfigurationError naming the -r."""
    after = dict(services)
    for raw in raws:
        where = f"-r {raw}"
        name, colon, program = raw.partition(":")
        if not colon or not program.strip():
            raise _fault(where, "is not NAME:JQ, for example 'mysql:.check_interval=5'")
        if name not in after:
            known = ", ".join(after) or "none; add one with -s"
            raise _fault(where, f"there is no service {name!r}; services: {known}")
        try:
            after[name] = jq(program, after[name])
        except ValueError as error:
            raise _fault(where, str(error)) from None
    return after


def without_port(services: Mapping[str, Plain], specs: Sequence[Spec]) -> None:
    """Raises ConfigurationError for services of the command line whose frontend would have no port."""
    lacking = [
        Problem(spec.where, f"{spec.type} has no port of its own; add -r '{spec.name}:.haproxy.port=PORT'")
        for spec in specs
        if not {"port", "bind_address"} & _keys(services[spec.name].get("haproxy"))
    ]
    if lacking:
        raise ConfigurationError(*lacking)


def _keys(section: Any) -> set[str]:
    return set(section) if isinstance(section, dict) else set()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the base configuration depends on outside the command line.

    `files` is the limit of open files, `user` a user and group that HAProxy gives itself up to, when it may.
    """

    run_dir: str
    files: int
    user: str | None


def base(plain: Plain, around: Surroundings) -> Plain:
    """The base configuration with what DockStack adds where it says nothing: files in the run directory, maxconn."""
    given = plain.get("haproxy", {})
    if not isinstance(given, dict):
        return plain
    said = given.get("global") or []
    lines = [said] if isinstance(said, str) else said
    haproxy: Plain = {
        "config_file_path": f"{around.run_dir}/haproxy.cfg",
        "socket_file_path": f"{around.run_dir}/haproxy.sock",
    }
    haproxy |= given
    if isinstance(lines, list):
        haproxy["global"] = [*lines, *_global([line for line in lines if isinstance(line, str)], around)]
    return {**plain, "haproxy": haproxy}


def ambassador(plain: Plain, bind: str | None, stats: str | None) -> Plain:
    """The file with `bind` as the address of all frontends, and a read-only statistics page on `stats`, HOST:PORT."""
    haproxy = plain.get("haproxy", {})
    if not isinstance(haproxy, dict) or (bind is None and stats is None):
        return plain
    if bind is not None:
        haproxy = {**haproxy, "bind_address": bind}
    extra = haproxy.get("extra_sections") or {}
    if stats is not None and isinstance(extra, dict):
        page = [f"bind {stats}", "mode http", "stats enable", "stats uri /", "stats refresh 5s"]
        haproxy = {**haproxy, "extra_sections": {**extra, STATS_SECTION: page}}
    return {**plain, "haproxy": haproxy}


def has_statistics(plain: Plain) -> bool:
    """Whether a base configuration brings a statistics page of its own."""
    haproxy = plain.get("haproxy")
    sections = haproxy.get("extra_sections") if isinstance(haproxy, dict) else None
    lines = [line for each in sections.values() if isinstance(each, list) for line in each] if sections else []
    return any(isinstance(line, str) and line.split()[:1] == ["stats"] for line in lines)


def stats_address(text: str) -> str | None:
    """`--stats HOST:PORT` or `off`. Raises ConfigurationError."""
    if text == "off":
        return None
    host, colon, port = text.rpartition(":")
    if not (colon and _is_address(host) and _is_number(port) and 1 <= int(port) <= 65535):
        raise _fault(f"--stats {text}", "is neither HOST:PORT nor off")
    return text


def bind_address(text: str) -> str:
    """`--bind ADDRESS`. Raises ConfigurationError."""
    if not _is_address(text):
        raise _fault(f"--bind {text}", "is no address of this host, such as 127.0.0.1, ::1 or * (without a port)")
    return text


def _is_address(host: str) -> bool:
    return host == "*" or is_host(host.removeprefix("[").removesuffix("]"))


def maxconn(files: int) -> int:
    """Connections that fit into this many open files: two for each, some for listeners, checks and logs."""
    return max(100, min(100_000, int((files - 200) * 0.45)))


def _global(lines: Sequence[str], around: Surroundings) -> list[str]:
    said = {line.split()[0] for line in lines if line.split()}
    added = [] if "maxconn" in said else [f"maxconn {maxconn(around.files)}"]
    if around.user is not None and not said & {"user", "group", "uid", "gid"}:
        added += [f"user {around.user}", f"group {around.user}"]
    return added


def _reporter(locator: Locator, path: str) -> Plain:
    if locator.scheme == "file":
        return {"reporter_type": "file", "file_directory": locator.root, "file_path": path}
    if locator.scheme == "etcd":
        return {
            "reporter_type": "etcd",
            "etcd_host": [str(host) for host in locator.hosts],
            "etcd_path": path,
            **{f"etcd_{key}": value for key, value in _secrets(locator).items()},
        }
    return {
        "reporter_type": "zookeeper",
        "zk_hosts": [str(host) for host in locator.hosts],
        "zk_path": path,
        **{f"zk_{key}": value for key, value in _secrets(locator).items()},
    }


def _discovery(locator: Locator, path: str) -> Plain:
    if locator.scheme == "file":
        return {"method": "file", "directory": locator.root, "path": path}
    if locator.scheme == "etcd":
        secrets = {key: value for key, value in _secrets(locator).items() if key != "session_timeout"}
        return {"method": "etcd", "hosts": [str(host) for host in locator.hosts], "path": path, **secrets}
    return {
        "method": "zookeeper",
        "hosts": [str(host) for host in locator.hosts],
        "path": path,
        **_secrets(locator),
    }


def _secrets(locator: Locator) -> Plain:
    tls = locator.tls
    return {
        "session_timeout": locator.session_timeout,
        **({} if locator.username is None else {"auth": f"{locator.username}:{locator.password or ''}"}),
        **(
            {}
            if tls is None
            else {
                "tls": {
                    key: value
                    for key in ("ca_file", "cert_file", "key_file", "verify")
                    if (value := getattr(tls, key)) is not None
                }
            }
        ),
    }


def _checked(spec: Spec) -> Spec:
    for what, word in (("NAME", spec.name), ("TYPE", spec.type)):
        if not word or not word.isprintable() or " " in word or "/" in word:
            raise _fault(spec.where, f"{what} {word!r} must be a word without spaces or slashes")
    if not spec.path:
        raise _fault(spec.where, "has no path: where in the registry is it? For example /mysql")
    return spec


def _fault(where: str, what: str) -> ConfigurationError:
    return ConfigurationError(Problem(where, what))


def _port(where: str, text: str) -> int:
    if not 1 <= int(text) <= 65535:
        raise _fault(where, f"port {text} is not between 1 and 65535")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
