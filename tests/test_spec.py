"""The grammar of -d, -s and -r, and what they put into a nerve or synapse file."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack import spec
from dockstack.errors import ConfigurationError
from dockstack.registry.url import parse_url
from dockstack.spec import Spec, Surroundings


def refusal(error: pytest.ExceptionInfo[ConfigurationError]) -> str:
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("mysql:tcp:3306:/test", ("mysql", "tcp", 3306, "/test")),
        ("mysql:tcp:1:test", ("mysql", "tcp", 1, "test")),
        ("a.b-c_d:http:65535:/x/y:z", ("a.b-c_d", "http", 65535, "/x/y:z")),
    ],
)
def test_services_of_nerve(text: str, parts: tuple[str, str, int, str]) -> None:
    found = spec.parse_nerve(text)
    assert (found.name, found.type, found.port, found.path, found.text) == (*parts, text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("mysql:tcp:mysql:3306:/test", ("mysql", 3306, "/test")),
        ("mysql:tcp:team_db.1-a:1:test:x", ("team_db.1-a", 1, "test:x")),
        ("mysql:tcp:0a1b2c3d4e5f:3306:/x", ("0a1b2c3d4e5f", 3306, "/x")),
    ],
)
def test_services_of_nerve_in_a_container(text: str, parts: tuple[str, int, str]) -> None:
    found = spec.parse_nerve(text)
    assert (found.container, found.port, found.path) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mysql:tcp:0:/x", "port 0 is not between 1 and 65535"),
        ("mysql:tcp:65536:/x", "port 65536 is not between"),
        ("mysql:tcp:3306", "has no path"),
        ("mysql:tcp:3306:", "has no path"),
        ("mysql", "is not NAME:TYPE:PORT:PATH"),
        ("mysql:tcp", "is not NAME:TYPE:PORT:PATH"),
        ("mysql:tcp:db:/x", "is neither NAME:TYPE:PORT:PATH nor NAME:TYPE:CONTAINER:CONTAINER_PORT:PATH"),
        ("mysql:tcp:²:/x", "is neither NAME:TYPE:PORT:PATH nor"),
        ("mysql:tcp:db:mysql:/x", "is neither NAME:TYPE:PORT:PATH nor"),
        (":tcp:80:/x", "NAME '' must be a word"),
        ("my sql:tcp:80:/x", "NAME 'my sql' must be a word"),
        ("a/b:tcp:80:/x", "NAME 'a/b' must be a word"),
        ("a\nb:tcp:80:/x", "must be a word"),
        ("mysql::80:/x", "TYPE '' must be a word"),
        ("mysql:../x:80:/x", "TYPE '../x' must be a word"),
        ("mysql:tcp:db:0:/x", "port 0 is not between 1 and 65535"),
        ("mysql:tcp:db:3306:", "has no path"),
        ("mysql:tcp:d:3306:/x", "'d' is no name of a container: letters, digits and _ . -, two at least, are meant"),
        ("mysql:tcp::3306:/x", "'' is no name of a container"),
    ],
)
def test_what_is_no_service_of_nerve(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        spec.parse_nerve(text)
    assert refusal(raised).startswith(f"-s {text}: ")
    assert message in refusal(raised)


def test_services_of_synapse() -> None:
    assert spec.parse_synapse("mysql:mysql:/test") == Spec("mysql:mysql:/test", "mysql", "mysql", None, "/test")
    assert spec.parse_synapse("a:b:/c:d").path == "/c:d"
    for text in ("mysql", "mysql:mysql", "mysql:mysql:", ":mysql:/x"):
        with pytest.raises(ConfigurationError, match=rf"-s {text}: "):
            spec.parse_synapse(text)


@pytest.mark.parametrize("text", ["a:mysql:3306:/t", "a:mysql:box:3306:/t"])
def test_the_service_of_nerve_is_no_service_of_synapse(text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        spec.parse_synapse(text)
    assert refusal(raised) == f"-s {text}: has a port, as nerve's have; synapse takes NAME:TYPE:PATH: a:mysql:/t"


def test_all_faults_of_all_services_are_told() -> None:
    with pytest.raises(ConfigurationError) as raised:
        spec.specs(spec.parse_nerve, ("a:tcp:0:/a", "b:tcp:80:/b", "b:tcp:81:/b", "c:tcp:82:/c"), ("c",))
    assert [problem.where for problem in raised.value.problems] == ["-s a:tcp:0:/a", "-s b:tcp:81:/b", "-s c:tcp:82:/c"]
    assert "there are two services called b" in refusal(raised)
    assert "there are two services called c" in refusal(raised)


def test_the_last_registry_wins() -> None:
    found = spec.discovery(("zk://one/a", "file:///tmp/registry"), needed="-s")
    assert found is not None
    assert (found[0].scheme, found[0].root) == ("file", "/tmp/registry")
    assert spec.discovery(()) is None


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ((), "-d: is missing"),
        (("zk//h/x",), "-d zk//h/x: is no URL such as zk://HOST:2181/BASE"),
        (("h:2181/x",), "-d h:2181/x: is no URL: write zk://h:2181/x"),
        (("zok://h/x",), "unknown registry scheme 'zok'; did you mean zk"),
        (("memory://",), "memory is for tests"),
        (("memory://x",), "-d memory://x: "),
        (("zk://h:99999/x",), "port '99999' is not between"),
        (("zk:///x",), "names no host"),
    ],
)
def test_registries_that_are_none(urls: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        spec.discovery(urls, needed="-s")
    assert message in refusal(raised)


@pytest.mark.parametrize("url", ["zkk://user:s3cret@h/x", "user:s3cret@h:2181/x"])
def test_a_password_in_a_registry_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        spec.discovery((url,), needed="-s")
    assert "s3cret" not in refusal(raised)


@pytest.mark.parametrize(
    ("base", "path", "joined", "doubted"),
    [
        ("/nerve", "/test", "/nerve/test", False),
        ("/nerve/", "/test/", "/nerve/test", False),
        ("/nerve//", "//a//b", "/nerve/a/b", False),
        ("", "/test", "/test", False),
        ("/nerve", "test", "/nervetest", True),
        ("/nerve/", "test", "/nerve/test", False),
    ],
)
def test_path_is_appended_to_base_as_text(base: str, path: str, joined: str, doubted: bool) -> None:
    found, doubt = spec.path_below(base, path)
    assert found == joined
    assert (doubt is not None) is doubted


@given(st.text("/ab"), st.text("/ab", min_size=1))
def test_a_path_has_no_empty_parts(base: str, path: str) -> None:
    found, _ = spec.path_below(base, path)
    assert found.startswith("/")
    assert "//" not in found
    assert found == "/" or not found.endswith("/")


def test_what_a_file_of_nerve_would_hold() -> None:
    one = spec.parse_nerve("mysql:tcp:3306:/test")
    template = {"check_interval": 2, "checks": [{"type": "tcp"}]}
    locator, _ = parse_url("zk://h1,h2:2182/nerve")
    assert spec.nerve_service(one, template, "10.0.0.1", locator, "/nerve/test") == {
        "host": "10.0.0.1",
        "port": 3306,
        "reporter_type": "zookeeper",
        "zk_hosts": ["h1:2181", "h2:2182"],
        "zk_path": "/nerve/test",
        "zk_session_timeout": 10.0,
        **template,
    }
    secure, _ = parse_url("zks://u:p%40@h/n?ca_file=/ca.pem&session_timeout=4&verify=false")
    found = spec.nerve_service(one, {}, "h", secure, "/x")
    assert (found["zk_auth"], found["zk_session_timeout"]) == ("u:p@", 4.0)
    assert found["zk_tls"] == {"ca_file": "/ca.pem", "verify": False}
    directory, _ = parse_url("file:///var/registry")
    assert spec.nerve_service(one, {}, "h", directory, "/x") == {
        "host": "h",
        "port": 3306,
        "reporter_type": "file",
        "file_directory": "/var/registry",
        "file_path": "/x",
    }


def test_the_command_line_wins_over_its_template() -> None:
    locator, _ = parse_url("file:///r")
    one = spec.parse_nerve("a:tcp:80:/x")
    found = spec.nerve_service(one, {"host": "t", "port": 1, "file_path": "/t", "weight": 5}, "h", locator, "/x")
    assert (found["host"], found["port"], found["file_path"], found["weight"]) == ("h", 80, "/x", 5)
    assert spec.synapse_service({"discovery": {"method": "base"}}, locator, "/x")["discovery"]["path"] == "/x"


def test_what_else_a_template_says_of_the_discovery_stays() -> None:
    locator, _ = parse_url("file:///r")
    filters = [{"label": "az", "value": "a"}]
    said = {"method": "zookeeper", "hosts": ["h"], "path": "/t", "session_timeout": 3, "label_filters": filters}
    assert spec.synapse_service({"discovery": said}, locator, "/x") == {
        "discovery": {"method": "file", "directory": "/r", "path": "/x", "label_filters": filters}
    }


def test_what_a_file_of_synapse_would_hold() -> None:
    locator, _ = parse_url("zk://u:p@h/nerve")
    assert spec.synapse_service({"haproxy": {"port": 1}}, locator, "/x") == {
        "discovery": {
            "method": "zookeeper",
            "hosts": ["h:2181"],
            "path": "/x",
            "session_timeout": 10.0,
            "auth": "u:p",
        },
        "haproxy": {"port": 1},
    }
    directory, _ = parse_url("file:///r")
    assert spec.synapse_service({}, directory, "/x") == {
        "discovery": {"method": "file", "directory": "/r", "path": "/x"}
    }


def test_an_unknown_type_lists_those_that_there_are() -> None:
    one = spec.parse_synapse("a:mysq:/x")
    with pytest.raises(ConfigurationError, match=r"unknown TYPE 'mysq'; known: http, mysql; did you mean mysql\?"):
        spec.template_of(one, None, ("http", "mysql"))


def add(program: str, value: dict[str, Any]) -> dict[str, Any]:
    """Stands for jq: `key` adds that key, with the number of keys before it."""
    if program == "bad":
        raise ValueError("no such thing")
    return {**value, program: len(value)}


def test_programs_run_in_order() -> None:
    services = {"a": {"x": 1}, "b": {}}
    after = spec.changed(services, ("a:one", "b:one", "a:two"), add)
    assert after == {"a": {"x": 1, "one": 1, "two": 2}, "b": {"one": 0}}
    assert services == {"a": {"x": 1}, "b": {}}


def test_a_program_may_have_colons() -> None:
    assert spec.changed({"a": {}}, ("a:.x={y:1}",), add) == {"a": {".x={y:1}": 0}}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("a", "-r a: is not NAME:JQ"),
        ("a:", "-r a:: is not NAME:JQ"),
        ("c:x", "-r c:x: there is no service 'c'; services: a, b"),
        ("a:bad", "-r a:bad: no such thing"),
    ],
)
def test_programs_that_cannot_run(raw: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        spec.changed({"a": {}, "b": {}}, (raw,), add)
    assert message in refusal(raised)


def test_a_frontend_needs_a_port() -> None:
    one, two = spec.parse_synapse("a:tcp:/a"), spec.parse_synapse("b:tcp:/b")
    sections: tuple[Any, ...] = (None, {}, "text", {"listen": []})
    for section in sections:
        with pytest.raises(ConfigurationError, match=r"-s a:tcp:/a: tcp has no port of its own"):
            spec.without_port({"a": {"haproxy": section}, "b": {"haproxy": {"port": 1}}}, (one, two))
    spec.without_port({"a": {"haproxy": {"bind_address": "/x"}}, "b": {"haproxy": {"port": 1}}}, (one, two))


AROUND = Surroundings("/run/d", 20_000, None)


def test_the_base_is_completed() -> None:
    plain = {"haproxy": {"global": ["log stdout"], "defaults": ["mode tcp"]}, "services": {}}
    completed = spec.base(plain, Surroundings("/run/d", 20_000, "haproxy"))
    full = spec.ambassador(completed, "127.0.0.1", "127.0.0.1:8080")
    assert full["haproxy"] == {
        "global": ["log stdout", "maxconn 8910", "user haproxy", "group haproxy"],
        "defaults": ["mode tcp"],
        "bind_address": "127.0.0.1",
        "config_file_path": "/run/d/haproxy.cfg",
        "socket_file_path": "/run/d/haproxy.sock",
        "extra_sections": {
            "listen dockstack-stats": [
                "bind 127.0.0.1:8080",
                "mode http",
                "stats enable",
                "stats uri /",
                "stats refresh 5s",
            ]
        },
    }
    assert plain["haproxy"] == {"global": ["log stdout"], "defaults": ["mode tcp"]}


def test_what_the_base_says_stays() -> None:
    own = {
        "global": ["maxconn 5", "uid 7"],
        "bind_address": "10.0.0.1",
        "config_file_path": "/etc/haproxy.cfg",
        "socket_file_path": ["/a", "/b"],
        "extra_sections": {"listen x": ["bind :1"]},
    }
    assert spec.base({"haproxy": own}, Surroundings("/r", 5000, "haproxy"))["haproxy"] == own
    assert spec.ambassador({"haproxy": own}, None, None)["haproxy"] == own
    added = spec.ambassador({"haproxy": own}, None, "127.0.0.1:1")["haproxy"]["extra_sections"]
    assert list(added) == ["listen x", "listen dockstack-stats"]


def test_one_line_of_global_is_a_line() -> None:
    assert spec.base({"haproxy": {"global": "maxconn 5"}}, AROUND)["haproxy"]["global"] == ["maxconn 5"]


@pytest.mark.parametrize("haproxy", [5, [], "x", {"global": 5}, {"extra_sections": []}, {"global": [5]}])
def test_a_base_of_the_wrong_shape_is_left_for_the_schema(haproxy: object) -> None:
    spec.ambassador(spec.base({"haproxy": haproxy}, AROUND), "127.0.0.1", "127.0.0.1:1")
    spec.has_statistics({"haproxy": haproxy})


def test_a_base_may_bring_its_own_statistics() -> None:
    page = {"listen stats": ["mode http", "stats enable"]}
    assert spec.has_statistics({"haproxy": {"extra_sections": page}})
    assert not spec.has_statistics({"haproxy": {"extra_sections": {"listen x": ["mode http"]}}})
    assert not spec.has_statistics({"haproxy": {}})
    assert not spec.has_statistics({})


@pytest.mark.parametrize("text", ["8080", ":8080", "h:", "h:0", "h:65536", "h:x", "on", "h:²", "a b:80", "a\nb:80"])
def test_statistics_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is neither HOST:PORT nor off"):
        spec.stats_address(text)


def test_statistics_addresses() -> None:
    assert spec.stats_address("off") is None
    assert spec.stats_address("127.0.0.1:8080") == "127.0.0.1:8080"
    assert spec.stats_address("[::1]:1") == "[::1]:1"
    assert spec.stats_address("*:1") == "*:1"


@pytest.mark.parametrize("text", ["", "foo bar", "127.0.0.1:80", "127.0.0.1\n", "a/b", "eth0 "])
def test_addresses_to_bind_that_are_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no address of this host"):
        spec.bind_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "[::1]", "*", "::", "localhost"])
def test_addresses_to_bind(text: str) -> None:
    assert spec.bind_address(text) == text


@given(st.integers(min_value=0, max_value=2**31))
def test_connections_fit_into_the_open_files(files: int) -> None:
    found = spec.maxconn(files)
    assert 100 <= found <= 100_000
    if files >= 1024:
        assert 2 * found + 100 <= files
