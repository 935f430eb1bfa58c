"""The table of keywords: by hand where it is a rule, and against real HAProxys for all of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dockstack.synapse.haproxy.keywords import Keyword, Side, known, lookup
from tests.servers.haproxy import HaproxyBinary
from tests.synapse.haproxy.examples import BACKEND, BOTH, DISABLING, FRONTEND, NOT_NEGATED_SINCE, SINCE, lines


def found(line: str) -> Keyword:
    keyword = lookup(line)
    assert keyword is not None, line
    return keyword


@pytest.mark.parametrize(
    ("text", "side"),
    [(BOTH, Side.BOTH), (BACKEND, Side.BACKEND), (FRONTEND, Side.FRONTEND)],
    ids=["both", "back", "front"],
)
def test_a_line_meant_for_both_goes_to_its_sides(text: str, side: Side) -> None:
    assert {line: found(line).listen for line in lines(text)} == dict.fromkeys(lines(text), side)


def test_every_keyword_has_an_example_or_a_replacement() -> None:
    shown = {found(line).name for line in lines(BOTH + BACKEND + FRONTEND)} | {DISABLING}
    assert {one.name for one in known() if one.instead is None} <= shown


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("option httplog clf", "option httplog"),
        ("Option   HTTPLOG", "option httplog"),
        ("no option logasap", "no option logasap"),
        ("no log", "no log"),
        ("http-check expect status 200", "http-check expect"),
        ("http-check connect port 5", "http-check"),
        ("timeout client-fin 5s", "timeout client-fin"),
        ("capture request header X len 3", "capture request header"),
    ],
)
def test_keywords_are_matched_on_whole_words(line: str, name: str) -> None:
    assert found(line).name == name


@pytest.mark.parametrize(
    "line",
    ["", "no", "option", "aclx y", "logs x", "timeout clients 5s", "capture x", "no stats enable", "bogus-option yes"],
)
def test_what_is_no_keyword(line: str) -> None:
    assert lookup(line) is None


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("block if x", "http-request deny"),
        ("reqadd X:\\ y", "http-request add-header"),
        ("rspidel ^X", "http-response del-header"),
        ("option forceclose", "option httpclose"),
        ("no option forceclose", "option httpclose"),
        ("no option httplog", "cannot negate"),
        ("no option http-restrict-req-hdr-names", "cannot negate"),
        ("grace 5s", "hard-stop-after"),
        ("redispatch", "option redispatch"),
    ],
)
def test_what_haproxy_no_longer_takes_has_a_replacement(line: str, instead: str) -> None:
    assert instead in (found(line).instead or "")


def test_a_proxy_id_goes_to_the_backend_when_it_is_meant_for_both() -> None:
    for line in ("id 5", "guid x"):
        assert (found(line).sides, found(line).listen) == (Side.BOTH, Side.BACKEND)


def test_newer_keywords_are_marked() -> None:
    newer = ("retry-on x", "http-error x", "filter x", "http-check connect", "tcp-check comment x", "guid x")
    assert {line: found(line).newer for line in newer} == dict.fromkeys(newer, True)
    assert not found("balance x").newer


def test_what_begins_as_an_older_keyword_was_written_by_smartstack_too() -> None:
    older = ("server-template s 1 a:1", "errorfiles x", "timeout client-hs 3s", "tcp-check send-lf x", "log-format x")
    assert {line: found(line).newer for line in older} == dict.fromkeys(older, False)


def refusals(binary: HaproxyBinary, directory: Path, frontend: list[str], backend: list[str]) -> set[str]:
    """The lines that HAProxy does not take where they stand, each in its own right."""
    found: set[str] = set()
    at_once = 40  # HAProxy gives up after some tens of errors
    for start in range(0, max(len(frontend), len(backend)), at_once):
        part = slice(start, start + at_once)
        found |= _refusals(binary, directory / "haproxy.cfg", frontend[part], backend[part])
    return found


def _refusals(binary: HaproxyBinary, path: Path, frontend: list[str], backend: list[str]) -> set[str]:
    text = ["global", " external-check", " insecure-fork-wanted", "http-errors e", " errorfile 503 /dev/null", ""]
    text += ["defaults", " mode http", "frontend f", *frontend, "backend b", *backend, ""]
    path.write_text("\n".join(text))
    answer = subprocess.run([binary.path, "-c", "-f", path], capture_output=True, text=True, timeout=120, check=False)
    numbers = re.findall(rf"ALERT\S* .*parsing \[{re.escape(str(path))}:(\d+)\]", answer.stderr + answer.stdout)
    return {text[int(number) - 1] for number in numbers}


def test_haproxy_agrees_about_the_sides(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    def taken(text: str) -> list[str]:
        return [
            line
            for line in lines(text)
            if found(line).instead is None and SINCE.get(found(line).name, (0, 0)) <= haproxy.version
        ]

    assert refusals(haproxy, tmp_path, taken(BOTH + FRONTEND), taken(BOTH + BACKEND)) == set()


def test_haproxy_refuses_what_has_a_replacement(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    gone = {one.name: one.sides for one in known() if one.instead is not None and one.name != "bind-process"}
    negated = [f"no {line}" for line in lines(BOTH + BACKEND) if line.startswith("option ")]
    gone |= {line: found(line).sides for line in negated if found(line).instead is not None}
    frontend = [f"{name} x" for name, sides in gone.items() if Side.FRONTEND in sides]
    backend = [f"{name} x" for name in gone]
    assert set(backend) - refusals(haproxy, tmp_path, frontend, backend) == set()


def test_haproxy_can_negate_the_other_options(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    def negatable(text: str) -> list[str]:
        options = [line for line in lines(text) if line.startswith("option ")]
        there = [line for line in options if SINCE.get(found(line).name, (0, 0)) <= haproxy.version]
        there = [line for line in there if NOT_NEGATED_SINCE.get(found(line).name, (9, 9)) > haproxy.version]
        return [f"no {line}" for line in there if found(f"no {line}").instead is None]

    assert refusals(haproxy, tmp_path, negatable(BOTH + FRONTEND), negatable(BOTH + BACKEND)) == set()
