"""Where the lines of a service go, and what is said about those that go nowhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dockstack.settings.synapse import HaproxySettings, ServiceHaproxy, SynapseService
from dockstack.synapse.haproxy.document import frame
from dockstack.synapse.haproxy.keywords import Keyword, known, lookup
from dockstack.synapse.haproxy.model import Section
from dockstack.synapse.haproxy.render import render
from dockstack.synapse.haproxy.sides import Sides, bare, modern_section, modernised, shared_top, sides
from tests.servers.haproxy import HaproxyBinary
from tests.synapse.haproxy.examples import BACKEND, BOTH, FRONTEND, NOT_NEGATED_SINCE, SINCE, lines

WHERE = "services.svc.haproxy"


def sorted_lines(modern: bool = True, **parts: Any) -> Sides:
    return sides(WHERE, ServiceHaproxy(**parts), modern)


def test_own_lines_come_before_those_of_listen() -> None:
    found = sorted_lines(frontend=["maxconn 5"], backend=["balance source"], listen=["mode http", "timeout server 5s"])
    assert found.frontend == ("maxconn 5", "mode http")
    assert found.backend == ("balance source", "mode http", "timeout server 5s")


@pytest.mark.parametrize(
    ("line", "frontend", "backend"),
    [
        ("mode http", True, True),
        ("option httplog", True, True),
        ("option tcplog", True, True),
        ("log-format x", True, True),
        ("stick-table type ip size 1", False, True),
        ("persist rdp-cookie", False, True),
        ("transparent", False, True),
        ("external-check command /x", False, True),
        ("unique-id-format x", True, False),
        ("unique-id-header X", True, False),
        ("id 5", False, True),
        ("guid x", False, True),
        ("http-check send meth GET", False, True),
        ("tcp-check comment x", False, True),
        ("retry-on conn-failure", False, True),
        ("hash-balance-factor 150", False, True),
        ("srvtcpka-cnt 3", False, True),
        ("option forwarded", False, True),
        ("option h1-case-adjust-bogus-server", False, True),
        ("server-template s 1 db:1", False, True),
        ("tcp-request session accept", True, False),
        ("error-log-format x", True, False),
        ("clitcpka-cnt 3", True, False),
        ("timeout client-hs 3s", True, False),
        ("option h1-case-adjust-bogus-client", True, False),
        ("option disable-h2-upgrade", True, False),
        ("option idle-close-on-response", True, False),
        ("filter trace", True, False),
        ("http-after-response set-header X y", True, False),
        ("http-error status 500", True, True),
        ("errorfiles x", True, True),
        ("option http-restrict-req-hdr-names preserve", True, True),
        ("no option logasap", True, False),
        ("no log", True, True),
        ("bind 127.0.0.1:1", True, False),
        ("bogus yes", False, False),
    ],
)
def test_the_sides_of_a_listen_line(line: str, frontend: bool, backend: bool) -> None:
    found = sorted_lines(listen=[line])
    assert (found.frontend, found.backend) == ((line,) if frontend else (), (line,) if backend else ())
    assert bool(found.dropped) is not (frontend or backend)


PARTS = ("listen", "frontend", "backend", "shared_frontend")
OPTIONS = [line for line in lines(BOTH + BACKEND + FRONTEND) if line.startswith("option ")]
NEGATED = [f"no {line}" for line in OPTIONS if (found := lookup(f"no {line}")) and found.instead is None]


def places(line: str, part: str) -> tuple[bool, bool, bool]:
    """Whether the line of a part goes to the frontend, the backend and the shared frontend, as the rules have it."""
    word = line.removeprefix("no ")
    front, back = word in lines(FRONTEND), word in lines(BACKEND)
    both = word in lines(BOTH) or line == "no log"
    own = word.startswith(("id ", "guid "))  # each of the two sections may have one, and both may not
    match part:
        case "listen":
            return (front or both, back or both, False)
        case "frontend":
            return (front or both or own, False, False)
        case "backend":
            return (False, back or both, False)
        case _:
            return (False, False, front or both or own)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("line", ["no log", *NEGATED, *lines(BOTH + BACKEND + FRONTEND)])
def test_each_keyword_in_each_part(line: str, part: str) -> None:
    found = sorted_lines(True, **{part: [line]})
    gone = (line in found.frontend, line in found.backend, line in found.shared)
    assert gone == places(line, part)
    assert (len(found.dropped), found.problems) == (0 if any(gone) else 1, ())


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("keyword", [one for one in known() if one.instead is not None], ids=lambda one: one.name)
def test_each_removed_keyword_in_each_part(keyword: Keyword, part: str) -> None:
    found = sorted_lines(True, **{part: [f"{keyword.name} x"]})
    (problem,) = found.problems
    assert problem.where == f"{WHERE}.{part}"
    assert f"`{keyword.name} x`" in problem.what
    assert str(keyword.instead) in problem.what
    assert (found.frontend, found.backend, found.shared, found.dropped) == ((), (), (), ())


def test_a_line_on_the_wrong_side_is_left_out_and_named() -> None:
    found = sorted_lines(frontend=["option httpchk", "id 5"], backend=["maxconn 5"], shared_frontend=["balance source"])
    assert (found.frontend, found.backend, found.shared) == (("id 5",), (), ())
    assert found.dropped == (
        f"{WHERE}.frontend: `option httpchk` belongs in a backend; it is left out",
        f"{WHERE}.backend: `maxconn 5` belongs in a frontend; it is left out",
        f"{WHERE}.shared_frontend: `balance source` belongs in a backend; it is left out",
    )


def test_empty_lines_and_comments_go_without_a_word() -> None:
    found = sorted_lines(listen=["", "  # nothing", "  mode   http  "])
    assert found.backend == ("mode   http",)
    assert found.dropped == ()
    assert bare(["a\n\n#b\n c "]) == ("a", "c")


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("part", ["listen", "frontend", "backend", "shared_frontend"])
@pytest.mark.parametrize("line", ["block if bad", "reqadd X:\\ y", "option forceclose", "no option mysql-check"])
def test_what_haproxy_no_longer_takes_is_a_problem_everywhere(part: str, line: str, modern: bool) -> None:
    found = sorted_lines(modern, **{part: [line]})
    assert found.dropped == ()
    (problem,) = found.problems
    assert problem.where == f"{WHERE}.{part}"
    assert f"`{line}`" in problem.what
    assert "write" in problem.what


def test_a_newer_line_is_written_and_named() -> None:
    found = sorted_lines(listen=["retry-on conn-failure", "mode http"])
    assert found.backend == ("retry-on conn-failure", "mode http")
    (said,) = found.newer
    assert "`retry-on conn-failure` is written" in said


CHECK = r"option httpchk GET /health HTTP/1.1\r\nHost:\ www\r\nX-A:b"


@pytest.mark.parametrize(
    ("line", "new"),
    [
        (CHECK, ("option httpchk", "http-check send meth GET uri /health ver HTTP/1.1 hdr Host www hdr X-A b")),
        (
            r"OPTION httpchk HEAD / HTTP/1.0\r\nUser-Agent:\ a\ b",
            ("option httpchk", r"http-check send meth HEAD uri / ver HTTP/1.0 hdr User-Agent a\ b"),
        ),
        (
            r'option httpchk GET / "HTTP/1.1\r\nHost: ${HOST}\r\nX-A:  50%\r\nEmpty:\r\n"',
            ("option httpchk", 'http-check send meth GET uri / ver HTTP/1.1 hdr Host "${HOST}" hdr X-A "50%%"'),
        ),
        (
            r"option httpchk GET / HTTP/1.1\r\nHost:\ x\r\n\r\nbody",
            (r"option httpchk GET / HTTP/1.1\r\nHost:\ x\r\n\r\nbody",),
        ),
        (r"option httpchk GET / HTTP/1.1\r\nHost:\ 'x y'", (r"option httpchk GET / HTTP/1.1\r\nHost:\ 'x y'",)),
        ("option httpchk GET /health", ("option httpchk GET /health",)),
        ("option httpchk GET / HTTP/1.0", ("option httpchk GET / HTTP/1.0",)),
        ("mode http", ("mode http",)),
        ('acl x "', ('acl x "',)),
    ],
)
def test_headers_behind_the_version_become_a_rule(line: str, new: tuple[str, ...]) -> None:
    assert modernised(line) == new


def test_rewriting_is_said_once_and_only_done_for_a_modern_haproxy() -> None:
    found = sorted_lines(listen=[CHECK])
    assert (found.backend, len(found.rewritten)) == (modernised(CHECK), 1)
    old = sorted_lines(modern=False, listen=[CHECK])
    assert (old.backend, old.rewritten) == ((CHECK,), ())


@pytest.mark.parametrize(
    ("title", "new", "first"),
    [
        ("listen stats :3212", "listen stats", ("bind :3212",)),
        ("frontend web 10.0.0.1:80 ssl", "frontend web", ("bind 10.0.0.1:80 ssl",)),
        ("listen stats", "listen stats", ()),
        ("frontend web from x", "frontend web from x", ()),
        ("peers p 1", "peers p 1", ()),
    ],
)
def test_an_address_in_a_title_becomes_a_bind_line(title: str, new: str, first: tuple[str, ...]) -> None:
    section, said = modern_section(Section(title, ("mode http",)))
    assert section == Section(new, (*first, "mode http"))
    assert len(said) == len(first)


def test_the_shared_frontend_of_the_top_section_is_filtered_too() -> None:
    found = shared_top("haproxy", ["bind :1", "bogus", "balance source"], modern=True)
    assert (found.shared, len(found.dropped)) == (("bind :1",), 2)


NEEDS = {
    "stick match": "stick-table type ip size 10",
    "stick on": "stick-table type ip size 10",
    "stick store-": "stick-table type ip size 10",
    "use-server": "server s9 127.0.0.1:9",
    "http-check": "option httpchk",
    "tcp-check": "option tcp-check",
    "option external-check": "external-check command /bin/true",
    "unique-id-header": "unique-id-format %ci",
    "capture": "mode http",
}
"""Lines that HAProxy takes only beside another one."""

TOP = {
    "global": ["external-check", "insecure-fork-wanted"],
    "defaults": ["mode http", *(f"timeout {one} 1s" for one in ("client", "server", "connect"))],
    "extra_sections": {
        "http-errors e": ["errorfile 503 /dev/null"],
        "mailers m": ["mailer one 127.0.0.1:25"],
        "backend b": ["server s9 127.0.0.1:9"],
        "listen stats 127.0.0.1:18998": ["stats enable", *(f"http-check {one}" for one in ("disable-on-404",))],
        "frontend titled :18997": ["maxconn 5"],
    },
    "shared_frontend": ["bind 127.0.0.1:18996", "mode http"],
}
REWRITTEN = [
    CHECK,
    r'option httpchk GET / "HTTP/1.1\r\nHost: ${HOME}\r\nX-A:  50%\r\nEmpty:\r\n"',
    r"option httpchk OPTIONS * HTTP/1.1\r\nHost:\ x\r\nUser-Agent:\ a\ b%20\r\nConnection:close",
]


def one_service_for_each_line(version: tuple[int, ...]) -> dict[str, SynapseService]:
    """By name, a service whose settings hold one line of the tables, in one part."""
    taken = [one for one in lines(BOTH + BACKEND + FRONTEND) if SINCE.get(name_of(one), (0, 0)) <= version]
    negated = [one for one in NEGATED if NOT_NEGATED_SINCE.get(name_of(one), (9, 9)) > version]
    negated = [one for one in negated if SINCE.get(name_of(one), (0, 0)) <= version]
    services: dict[str, SynapseService] = {}
    for number, line in enumerate([*taken, "no log", *negated, *REWRITTEN]):
        for part in PARTS:
            name = f"{part}-{number}"
            own = line.replace("id 77", f"id {1000 + len(services)}").replace("guid x", f"guid g{len(services)}")
            needed = next((one for start, one in NEEDS.items() if line.startswith(start)), "mode http")
            if part == "shared_frontend":
                needed = "mode http"
                if line == "stats http-request allow":  # never beside `stats auth`, and this frontend has them all
                    continue
            haproxy = {"port": 1024 + len(services), part: [needed, own], "bind_address": "127.0.0.1"}
            services[name] = SynapseService.model_validate({"discovery": {"method": "base"}, "haproxy": haproxy})
    return services


def name_of(line: str) -> str:
    keyword = lookup(line.removeprefix("no "))
    return "" if keyword is None else keyword.name


def every_line(version: tuple[int, ...]) -> str:
    """The file in which each of the tables' lines stands where it goes."""
    found = frame(HaproxySettings.model_validate(TOP), one_service_for_each_line(version), (), "host")
    return render(found.empty).text


def test_haproxy_takes_every_line_where_it_goes(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    file = every_line(haproxy.version)
    assert sum("\\r" in line for line in file.split("\n")) == 0
    path = tmp_path / "haproxy.cfg"
    path.write_text(file)
    answer = subprocess.run([haproxy.path, "-c", "-f", path], capture_output=True, text=True, timeout=120, check=False)
    alerts = [line for line in answer.stderr.splitlines() if "[ALERT]" in line]
    texts = file.split("\n")
    numbers = [int(number) for number in re.findall(r"haproxy\.cfg:(\d+)\]", "\n".join(alerts))]
    assert (answer.returncode, alerts, [texts[number - 1] for number in numbers]) == (0, [], [])


def test_haproxy_refuses_some_of_what_is_rewritten(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    """That the rewriting is needed: the lines as they were are no configuration that this HAProxy takes."""
    path = tmp_path / "haproxy.cfg"
    for refused in (
        "listen stats 127.0.0.1:18998\n",
        *([f"backend b\n{CHECK}\n"] if haproxy.version >= (2, 8) else []),
    ):
        path.write_text(refused)
        answer = subprocess.run([haproxy.path, "-c", "-f", path], capture_output=True, timeout=120, check=False)
        assert answer.returncode != 0


def test_what_is_rewritten_in_a_section_of_its_own_is_said() -> None:
    section, said = modern_section(Section("backend x", ("mode http", CHECK)))
    assert section.lines == ("mode http", *modernised(CHECK))
    (line,) = said
    assert line.startswith(f"backend x: `{CHECK}` is written as `option httpchk`, `http-check send ")
