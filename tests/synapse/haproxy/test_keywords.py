"""The table of keywords: by hand where it is a rule, and against real HAProxys for all of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dockstack.synapse.haproxy.keywords import Keyword, Side, known, lookup
from tests.servers.haproxy import HaproxyBinary

BOTH = """
acl x path /|bind-process all|compression algo gzip|description x|enabled|errorfile 503 /dev/null|errorloc 503 /x
errorloc302 503 /x|errorloc303 503 /x|force-persist if TRUE|http-request set-header X y|http-response set-header X y
ignore-persist if TRUE|log 127.0.0.1 local0|log-format x|log-format-sd x|log-tag x|mode http|redirect prefix / if FALSE
email-alert from a@b|email-alert level alert|email-alert mailers m|email-alert myhostname h|email-alert to x@y
option forwardfor|option http-buffer-request|option http-keep-alive|option http-no-delay
option http-server-close|option httpclose|option httplog|option independent-streams|option nolinger|option originalto
option splice-auto|option splice-request|option splice-response|option tcpka|option tcplog
stats admin if TRUE|stats auth a:b|stats enable|stats hide-version|stats http-request allow|stats realm x
stats refresh 5s|stats scope .|stats show-desc x|stats show-legends|stats show-node|stats uri /x
tcp-request content accept|tcp-request inspect-delay 5s
timeout http-keep-alive 5s|timeout http-request 5s|timeout tarpit 5s
http-error status 500 content-type text/plain string x|errorfiles e|option http-restrict-req-hdr-names preserve
"""
BACKEND = """
balance roundrobin|cookie SRV insert|default-server inter 1s|dispatch 127.0.0.1:80|fullconn 10|hash-type consistent
http-reuse safe|http-send-name-header X-S|load-server-state-from-file none|max-keep-alive-queue 10|retries 3
server s9 127.0.0.1:9|server-state-file-name x|source 127.0.0.1|stick-table type ip size 10|transparent
use-server s9 if TRUE|external-check command /bin/true|external-check path /bin|id 77|guid x
http-check disable-on-404|http-check expect status 200|http-check send-state|http-check send meth GET uri /
option abortonclose|option accept-invalid-http-response|option allbackups|option checkcache|option external-check
option http-pretend-keepalive|option httpchk|option ldap-check|option log-health-checks
option mysql-check user x|option persist
option pgsql-check user x|option prefer-last-server|option redis-check|option redispatch|option smtpchk|option srvtcpka
option ssl-hello-chk|option tcp-check|option tcp-smart-connect|option transparent|persist rdp-cookie|stick match src
stick on src|stick store-request src|stick store-response src|tcp-check connect|tcp-check expect string x
tcp-check send x|tcp-check send-binary aa|tcp-check comment x|tcp-response content accept
tcp-response inspect-delay 5s|timeout check 5s|timeout connect 5s|timeout queue 5s|timeout server 5s
timeout server-fin 5s|timeout tunnel 5s|hash-balance-factor 150|retry-on conn-failure|server-template t 2 127.0.0.1:1
srvtcpka-cnt 3|srvtcpka-idle 3|srvtcpka-intvl 3|option forwarded|option h1-case-adjust-bogus-server
"""
FRONTEND = """
backlog 10|bind 127.0.0.1:18999|default_backend b|maxconn 10|unique-id-format %ci|unique-id-header X
use_backend b if TRUE|capture cookie x len 10|capture request header x len 10|capture response header x len 10
declare capture request len 10|monitor fail if FALSE|monitor-uri /m|option accept-invalid-http-request
option clitcpka|option contstats|option dontlog-normal|option dontlognull|option http-ignore-probes
option http-use-proxy-header|option log-separate-errors|option logasap|option socket-stats|option tcp-smart-accept
rate-limit sessions 10|tcp-request connection accept|timeout client 5s|timeout client-fin 5s
clitcpka-cnt 3|clitcpka-idle 3|clitcpka-intvl 3|error-log-format x|filter compression
http-after-response set-header X y|option disable-h2-upgrade|option h1-case-adjust-bogus-client
option idle-close-on-response|tcp-request session accept|timeout client-hs 3s
"""
DISABLING = "disabled"  # it would take the section out of the check
SINCE = {"option forwarded": (2, 8), "timeout client-hs": (3, 0), "guid": (3, 0)}
NOT_NEGATED_SINCE = {"option accept-invalid-http-request": (3, 2), "option accept-invalid-http-response": (3, 2)}


def lines(text: str) -> list[str]:
    return [one for line in text.split("\n") for one in line.split("|") if one]


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
    assert [found(one).newer for one in ("retry-on x", "http-error x", "filter x", "balance x")] == [
        True,
        True,
        True,
        False,
    ]


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
    answer = subprocess.run([binary.path, "-c", "-f", path], capture_output=True, text=True, timeout=30, check=False)
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
