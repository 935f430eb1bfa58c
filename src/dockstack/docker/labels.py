"""What a container's labels say about the services in it, DockStack's own labels and the names of Registrator. Pure.

    dockstack.enable  dockstack.NAME.port  .path  .check  .check.OPTION  .weight  .labels.KEY
    SERVICE_NAME  SERVICE_TAGS  SERVICE_IGNORE  SERVICE_PORT_NAME  SERVICE_PORT_TAGS  SERVICE_PORT_IGNORE

Labels are what whoever starts a container writes: they name no file, no command, no other host, and nothing above the
path that the operator gave.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from dockstack.docker.containers import Container
from dockstack.errors import ConfigurationError, Problem

PREFIX = "dockstack."
USUAL_CHECK = "tcp"
"""The template where no label names one."""

_KEYS = ("port", "path", "check", "weight", "labels")
_FORBIDDEN = frozenset({"host", "port", "module", "type", "command", "container"})
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SPECIFIC = re.compile(r"([0-9]{1,5})_(.+)", re.DOTALL)
_COMMA = re.compile(r"(?<!\\),")
_LARGEST_WEIGHT = 2**31 - 1
_LONGEST_SHOWN = 60
_LONGEST, _MOST = 1000, 200  # bytes of a label, labels of a container: a node of a registry takes less than 1 MB
_LONGEST_PATH = 200


@dataclass(frozen=True, slots=True)
class Labelled:
    """A service that labels ask for: `port` is the container's, `check` a template's name, `path` begins with a slash.

    `options` are keys of the template's first check, one or two steps deep, and their text.
    """

    name: str
    port: int
    path: str
    check: str = USUAL_CHECK
    options: tuple[tuple[tuple[str, ...], str], ...] = ()
    weight: int | None = None
    labels: tuple[tuple[str, str], ...] = ()


def labelled(container: Container) -> tuple[Labelled, ...]:
    """The services that the container's labels ask for, by name; none where it has no such labels.

    Raises ConfigurationError with everything that is wrong with them.
    """
    own = {key.removeprefix(PREFIX): text for key, text in container.labels.items() if key.startswith(PREFIX)}
    problems: list[Problem] = []
    enabled = _enabled(own.pop("enable", None), problems)
    if enabled is False:
        return ()
    services = _own(own, container, problems) if own else _registrator(container, enabled is True, problems)
    found = tuple(sorted(islice(services, _MOST + 1), key=lambda one: (one.name, one.port)))
    if len(own) > _MOST or len(found) > _MOST:
        problems.insert(0, Problem("labels", f"there are more than {_MOST}: give the container fewer"))
    elif enabled and not found and not problems and not _ignored(container):
        what = "is true, and no TCP port is published: publish one, or name it with dockstack.NAME.port=PORT"
        problems.append(_fault("enable", what))
    if problems:
        raise ConfigurationError(*problems)
    return found


def _enabled(text: str | None, problems: list[Problem]) -> bool | None:
    if text is None:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    problems.append(_fault("enable", f"{_shown(text)} is neither true nor false"))
    return None


def _own(own: Mapping[str, str], container: Container, problems: list[Problem]) -> Iterator[Labelled]:
    parts: dict[str, dict[str, str]] = {}
    for key, text in islice(sorted(own.items()), _MOST):
        name, dot, rest = key.partition(".")
        fault = _key_fault(name, rest if dot else None) or _text_fault(key) or _text_fault(text)
        if fault is not None:
            problems.append(_fault(key, fault))
        else:
            parts.setdefault(name, {})[rest] = text
    for name, texts in parts.items():
        before = len(problems)
        port = _port(name, texts, container, problems)
        path = _path(name, texts, problems)
        weight = _weight(name, texts, problems)
        options = _options(name, texts, problems)
        labels = tuple((key.removeprefix("labels."), text) for key, text in texts.items() if key.startswith("labels."))
        if len(problems) == before:
            yield Labelled(name, port, path, texts.get("check", USUAL_CHECK), options, weight, labels)


def _text_fault(text: str) -> str | None:
    if (size := _size(text)) > _LONGEST:
        return f"has {size} bytes: write {_LONGEST} at most"
    return None if text.isprintable() else "has a character in it that cannot be printed: write it without, in one line"


def _key_fault(name: str, rest: str | None) -> str | None:
    """What is wrong with the label dockstack.NAME.REST, or None."""
    if rest is None:
        near = difflib.get_close_matches(name, ["enable"], 1)
        return "unknown; did you mean dockstack.enable?" if near else "unknown; write dockstack.NAME.port=PORT"
    if not _NAME.fullmatch(name):
        return "the NAME in dockstack.NAME.KEY is made of letters, digits, _ and -"
    key, dot, option = rest.partition(".")
    if key == "labels" and not option:
        return f"write dockstack.{name}.labels.KEY=VALUE"
    if key in _KEYS and (not dot or (key in ("check", "labels") and option)):
        return None
    near = difflib.get_close_matches(key, _KEYS, 1)
    known = ", ".join(("port", "path", "check", "check.OPTION", "weight", "labels.KEY"))
    return f"unknown; did you mean dockstack.{name}.{near[0]}?" if near and not dot else f"unknown; known: {known}"


def _port(name: str, texts: Mapping[str, str], container: Container, problems: list[Problem]) -> int:
    text = texts.get("port")
    if text is None:
        ports = [port for port, protocol in _ports(container) if protocol == "tcp"] or [80]
        what = f"is missing: write the container's own port, for example {PREFIX}{name}.port={ports[0]}"
        problems.append(_fault(f"{name}.port", what))
    elif not _is_number(text, 5) or not 1 <= int(text) <= 65535:
        what = f"{_shown(text)} is not between 1 and 65535: write the container's own TCP port, for example 80"
        problems.append(_fault(f"{name}.port", what))
    else:
        return int(text)
    return 0


def _path(name: str, texts: Mapping[str, str], problems: list[Problem]) -> str:
    path = texts.get("path", f"/{name}")
    if not path.startswith("/"):
        problems.append(_fault(f"{name}.path", f"{_shown(path)} does not begin with a slash: write /{name}"))
    elif not path.strip("/"):
        problems.append(_fault(f"{name}.path", f"{_shown(path)} names no place: write /{name}"))
    elif " " in path or any(part.startswith(".") for part in path.split("/")):
        what = f"{_shown(path)} has a space in it, or a part that begins with a dot: write for example /{name}"
        problems.append(_fault(f"{name}.path", what))
    elif (size := _size(path)) > _LONGEST_PATH:
        what = f"has {size} bytes: write {_LONGEST_PATH} at most"
        problems.append(_fault(f"{name}.path", what))
    return path


def _weight(name: str, texts: Mapping[str, str], problems: list[Problem]) -> int | None:
    text = texts.get("weight")
    if text is None:
        return None
    if not _is_number(text, 10) or int(text) > _LARGEST_WEIGHT:
        problems.append(
            _fault(f"{name}.weight", f"{_shown(text)} is no whole number of 0 or more: write for example 1")
        )
        return None
    return int(text)


def _options(name: str, texts: Mapping[str, str], problems: list[Problem]) -> tuple[tuple[tuple[str, ...], str], ...]:
    found: dict[tuple[str, ...], str] = {}
    for key, text in texts.items():
        if not key.startswith("check."):
            continue
        steps = tuple(key.removeprefix("check.").split(".", 1))
        if steps[0] in _FORBIDDEN or steps[-1].endswith("_file"):
            what = "cannot be set by a label: write a template of your own and name it in dockstack.NAME.check"
            problems.append(_fault(f"{name}.{key}", what))
        elif not all(steps):
            problems.append(_fault(f"{name}.{key}", "has an empty part: write dockstack.NAME.check.OPTION=VALUE"))
        else:
            found[steps] = text
    for steps in [steps for steps in found if len(steps) > 1 and steps[:1] in found]:
        what = f"is given beside dockstack.{name}.check.{steps[0]}, which is the whole of it: remove one of them"
        problems.append(_fault(f"{name}.check.{'.'.join(steps)}", what))
    check = texts.get("check", USUAL_CHECK)
    if not _WORD.fullmatch(check):
        what = f"{_shown(check)} is no kind of check: write for example {USUAL_CHECK} or http"
        problems.append(_fault(f"{name}.check", what))
    return tuple(found.items())


def _registrator(container: Container, enabled: bool, problems: list[Problem]) -> Iterator[Labelled]:
    """What Registrator would register, of TCP; without `enabled` only what has a name, as with its option -explicit."""
    variables = _variables(container)
    ports = _ports(container)
    for port, protocol in ports:
        ignored = any(variables.get((place, "ignore")) for place in (port, None))
        own = variables.get((port, "name"))
        name = own or variables.get((None, "name")) or (_base(container.image) if enabled else "")
        if protocol != "tcp" or ignored or not name:
            continue
        if len(ports) > 1 and not own:
            name = f"{name}-{port}"
        tags = variables.get((port, "tags")) or variables.get((None, "tags")) or ""
        if not _WORD.fullmatch(name):
            what = f"{_shown(name)} is no name: write letters, digits, _ . and -, the first no . and no -"
            problems.append(Problem(f"SERVICE_{port}_NAME" if own else "SERVICE_NAME", what))
        elif (fault := _text_fault(tags)) is not None:
            problems.append(Problem("SERVICE_TAGS", fault))
        else:
            yield Labelled(name, port, f"/{name}", labels=tuple(_tags(tags)))


def _variables(container: Container) -> dict[tuple[int | None, str], str]:
    """Registrator's names, by port (None: for all of them) and in small letters; the environment wins over labels."""
    both = {**container.labels, **container.registrator}
    found: dict[tuple[int | None, str], str] = {}
    for key, text in both.items():
        if not key.startswith("SERVICE_"):
            continue
        word = key.removeprefix("SERVICE_").lower()
        specific = _SPECIFIC.fullmatch(word)
        found[(int(specific[1]), specific[2]) if specific else (None, word)] = text
    return found


def _ignored(container: Container) -> bool:
    return any(key == "ignore" and text for (_, key), text in _variables(container).items())


def _ports(container: Container) -> tuple[tuple[int, str], ...]:
    """The ports that are published; where none is, those that are exposed."""
    published = {(one.port, one.protocol) for one in container.published}
    return tuple(sorted(published or container.exposed))


def _tags(text: str) -> Iterator[tuple[str, str]]:
    """Each tag as a label whose value is `true`; a comma of a tag's own has a backslash before it."""
    tags = (tag.replace("\\,", ",").strip() for tag in _COMMA.split(text))
    yield from dict.fromkeys((tag, "true") for tag in tags if tag)


def _base(image: str) -> str:
    """The last part of the image's name, without tag and digest; nothing where the image has no name."""
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return "" if name == "sha256" else name


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= digits


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")


def _fault(key: str, what: str) -> Problem:
    label = f"{PREFIX}{key}"
    return Problem(
        f"label {label if label.isprintable() and len(label) <= 2 * _LONGEST_SHOWN else _shown(label)}", what
    )
