"""The lines of a service's settings, sorted into its frontend, its backend and the shared frontend. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dockstack.errors import Problem
from dockstack.settings.synapse import ServiceHaproxy
from dockstack.synapse.haproxy.keywords import Side, lookup
from dockstack.synapse.haproxy.model import Section
from dockstack.synapse.haproxy.words import split


@dataclass(frozen=True, slots=True)
class Sides:
    """Where each line went.

    `dropped`, `rewritten` and `newer` (written by us, dropped by SmartStack) are sentences for the operator;
    `problems` are lines that HAProxy no longer takes, and that are no line's to leave out.
    """

    frontend: tuple[str, ...] = ()
    backend: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def sides(where: str, settings: ServiceHaproxy, modern: bool) -> Sides:
    """The lines of one service; `where` is the path of its section, for the messages.

    Own lines come before those of `listen`. `modern`: lines are put as HAProxy 2.6 and later want them; otherwise
    they are written as they are.
    """
    sorter = _Sorter(where, modern)
    frontend = [*sorter.own("frontend", settings.frontend, Side.FRONTEND)]
    backend = [*sorter.own("backend", settings.backend, Side.BACKEND)]
    for line, side in sorter.listen(settings.listen):
        if Side.FRONTEND in side:
            frontend.append(line)
        if Side.BACKEND in side:
            backend.append(line)
    shared = [*sorter.own("shared_frontend", settings.shared_frontend, Side.FRONTEND)]
    return sorter.result(frontend, backend, shared)


def shared_top(where: str, lines: Iterable[str], modern: bool) -> Sides:
    """The lines of the shared frontend in the top section."""
    sorter = _Sorter(where, modern)
    return sorter.result([], [], [*sorter.own("shared_frontend", lines, Side.FRONTEND)])


def bare(lines: Iterable[str]) -> tuple[str, ...]:
    """The lines stripped, without empty ones and comments; a text of several lines is several."""
    stripped = (one.strip() for text in lines for one in text.split("\n"))
    return tuple(one for one in stripped if one and not one.startswith("#"))


class _Sorter:
    """Collects what is said about the lines while they are sorted."""

    def __init__(self, where: str, modern: bool) -> None:
        self._where = where
        self._modern = modern
        self._dropped: list[str] = []
        self._rewritten: list[str] = []
        self._newer: list[str] = []
        self._problems: list[Problem] = []

    def own(self, part: str, lines: Iterable[str], side: Side) -> Iterator[str]:
        """The lines of a part that has one side."""
        for line, allowed in self._known(part, lines, listen=False):
            if side in allowed:
                yield line
            else:
                other = "backend" if side is Side.FRONTEND else "frontend"
                self._drop(part, line, f"belongs in a {other}")

    def listen(self, lines: Iterable[str]) -> Iterator[tuple[str, Side]]:
        """The lines that are meant for both sides, each with those that it is for."""
        return self._known("listen", lines, listen=True)

    def result(self, frontend: list[str], backend: list[str], shared: list[str]) -> Sides:
        said = (tuple(self._dropped), tuple(self._rewritten), tuple(self._newer), tuple(self._problems))
        return Sides(tuple(frontend), tuple(backend), tuple(shared), *said)

    def _known(self, part: str, lines: Iterable[str], listen: bool) -> Iterator[tuple[str, Side]]:
        for line in bare(lines):
            keyword = lookup(line)
            where = f"{self._where}.{part}"
            if keyword is None:
                self._drop(part, line, "is no keyword that can stand there")
            elif keyword.instead is not None:
                what = f"`{line}`: HAProxy does not take `{keyword.name}`; write {keyword.instead} instead"
                self._problems.append(Problem(where, what))
            else:
                if keyword.newer:
                    self._newer.append(f"{where}: `{line}` is written; SmartStack's synapse dropped it")
                new = modernised(line) if self._modern else (line,)
                if new != (line,):
                    self._rewritten.append(f"{where}: `{line}` is written as `{'`, `'.join(new)}`")
                for one in new:
                    yield one, keyword.listen if listen else keyword.sides

    def _drop(self, part: str, line: str, why: str) -> None:
        self._dropped.append(f"{self._where}.{part}: `{line}` {why}; it is left out")


_HEADER = re.compile(r"(?P<name>[^:\s]+):(?:\\?\s)*(?P<value>.*)", re.DOTALL)
_BREAK = r"\r\n"


def modernised(line: str) -> tuple[str, ...]:
    r"""The line as HAProxy since 2.8 takes it: headers behind the version of `option httpchk` become a rule.

    `option httpchk GET /x HTTP/1.1\r\nHost:\ www` was the way to send a header until `http-check send` came. A line
    that holds something else there is left as it is.
    """
    try:
        words = split(line)
    except ValueError:
        return (line,)
    if [word.lower() for word in words[:2]] != ["option", "httpchk"] or len(words) != 5 or _BREAK not in words[4]:
        return (line,)
    text, quote = words[4], ""
    if text.startswith('"') and text.endswith('"'):
        text, quote = text[1:-1], '"'  # kept around the values: only there HAProxy expands variables
    version, *texts = text.split(_BREAK)
    headers = [_HEADER.fullmatch(one) for one in texts if one]
    if "'" in text or '"' in text.replace(r"\"", "") or " " in version or None in headers:
        return (line,)
    # A value is a format of HAProxy's, where a percent sign is written twice; one without a value is not taken.
    said = [(one["name"], one["value"].replace("%", "%%")) for one in headers if one and one["value"]]
    sent = "".join(f" hdr {name} {quote}{value}{quote}" for name, value in said)
    return ("option httpchk", f"http-check send meth {words[2]} uri {words[3]} ver {version}{sent}")


def modern_section(section: Section) -> tuple[Section, tuple[str, ...]]:
    """The section as HAProxy since 2.6 takes it, and what was rewritten: a title's address becomes a bind line."""
    said = []
    lines: list[str] = []
    title = section.title
    words = title.split()
    if len(words) > 2 and words[0] in ("listen", "frontend") and words[2] != "from":
        title = " ".join(words[:2])
        lines.append(f"bind {' '.join(words[2:])}")
        said.append(f"`{section.title}` is written as `{title}` with `{lines[0]}`")
    for line in section.lines:
        new = modernised(line)
        if new != (line,):
            said.append(f"{title}: `{line}` is written as `{'`, `'.join(new)}`")
        lines.extend(new)
    return Section(title, tuple(lines)), tuple(said)
