"""The environment is filled in where the text is ours, and left alone where HAProxy or a shell reads it."""

from __future__ import annotations

import pytest

from dockstack.documents import EnvironmentText, parse
from dockstack.documents.environment import substitute
from dockstack.errors import ConfigurationError

ENV = {"HOST": "10.0.0.9", "PORT": "3306", "EMPTY": "", "LINES": "a\nb: c"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${HOST}", "10.0.0.9"),
        ("http://${HOST}:${PORT}/", "http://10.0.0.9:3306/"),
        ("${NONE:-a b}", "a b"),
        ("${NONE:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-full}", "full"),
        ("${HOST:-other}", "10.0.0.9"),
        ("$HOST and $$", "$HOST and $$"),
        ("$${HOST}", "${HOST}"),
        ("$${", "${"),
    ],
)
def test_variables(text: str, result: str) -> None:
    assert substitute(text, ENV) == result


@pytest.mark.parametrize(
    ("text", "reason"),
    [("${NONE}", "NONE is not set"), ("${HOST", "after"), ("${1}", "after"), ("${HOST:?x}", "after")],
)
def test_variables_that_cannot_be_filled_in(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        substitute(text, ENV)


def test_an_unset_variable_is_told_with_its_line() -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse("services:\n  a:\n    host: ${NONE}\n    port: ${NEITHER}\n", "n.yaml", ENV)
    assert [problem.where for problem in raised.value.problems] == [
        "n.yaml:3: services.a.host",
        "n.yaml:4: services.a.port",
    ]


def test_what_haproxy_or_a_shell_reads_is_left_alone() -> None:
    text = """
services:
  backend:
    discovery: {path: "/${HOST}"}
    haproxy:
      server_options: check port ${PORT}
      bind_address: ${HOST}
      bind_options: ssl crt ${CRT}
      listen: ["log-format ${X}", "${Y}"]
  a:
    haproxy: {frontend: "${F}", backend: ["${B}"], shared_frontend: "${S}"}
    default_servers: [{host: "${HOST}", haproxy_server_options: "${O}"}]
haproxy:
  global: ["node ${HOSTNAME}"]
  defaults: "${D}"
  extra_sections: {"listen ${HOST}": ["bind ${A}"]}
  reload_command: kill -USR2 ${PID}
  check_command: haproxy -c -f ${CONFIG}
  config_file_path: /etc/${HOST}/haproxy.cfg
"""
    data = parse(text, "s.yaml", ENV).data
    one, two, top = data["services"]["backend"], data["services"]["a"], data["haproxy"]
    assert one["discovery"]["path"] == "/10.0.0.9"
    assert one["haproxy"] == {
        "server_options": "check port ${PORT}",
        "bind_address": "10.0.0.9",
        "bind_options": "ssl crt ${CRT}",
        "listen": ["log-format ${X}", "${Y}"],
    }
    assert two["haproxy"] == {"frontend": "${F}", "backend": ["${B}"], "shared_frontend": "${S}"}
    assert two["default_servers"] == [{"host": "10.0.0.9", "haproxy_server_options": "${O}"}]
    assert top["config_file_path"] == "/etc/10.0.0.9/haproxy.cfg"
    assert [top["global"], top["defaults"], top["reload_command"], top["check_command"]] == [
        ["node ${HOSTNAME}"],
        "${D}",
        "kill -USR2 ${PID}",
        "haproxy -c -f ${CONFIG}",
    ]
    assert top["extra_sections"] == {"listen ${HOST}": ["bind ${A}"]}


def test_names_that_users_choose_are_no_lines_for_haproxy() -> None:
    text = "services: {global: {host: '${HOST}'}}\nlabels: {backend: '${HOST}'}\nheaders: {x_command: '${HOST}'}\n"
    data = parse(text, "n.yaml", ENV).data
    assert data["services"]["global"]["host"] == data["labels"]["backend"] == data["headers"]["x_command"] == "10.0.0.9"


def test_the_command_of_a_check_is_left_to_the_shell() -> None:
    text = "services: {command: {checks: [{type: exec, command: 'nc ${CHECK_HOST}', host: '${HOST}'}]}}\n"
    (check,) = parse(text, "n.yaml", ENV).data["services"]["command"]["checks"]
    assert check == {"type": "exec", "command": "nc ${CHECK_HOST}", "host": "10.0.0.9"}


def test_text_from_the_environment_says_so() -> None:
    data = parse('a: ${PORT}\nb: "${PORT}"\nc: 3306\n', "n.yaml", ENV).data
    assert data == {"a": "3306", "b": "3306", "c": 3306}
    assert [type(value) for value in data.values()] == [EnvironmentText, EnvironmentText, int]


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: <%= ENV['PORT'] %>", {"a": 3306}),
        ('a: "<%= ENV["PORT"] %>"', {"a": "3306"}),
        ("a: <%=ENV.fetch('NONE', '5')%>", {"a": 5}),
        ("a: <%= ENV.fetch('PORT') %>", {"a": 3306}),
        ("a: <%= ENV['NONE'] %>", {"a": None}),
        ('a: "<%% x %>"', {"a": "<% x %>"}),
        ('{"listen": ["acl x src <%= ENV.fetch("HOST", "d") %>"]}', {"listen": ["acl x src 10.0.0.9"]}),
    ],
)
def test_erb_look_ups(text: str, data: object) -> None:
    assert parse(text, "n.yaml", ENV).data == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: <%= `hostname` %>", "n.yaml:2: <%= `hostname` %>: of ERB only"),
        ("<% if x %>\n", "n.yaml:1: <% if x %>: of ERB only"),
        ("a: <%= ENV['A'] || 'b' %>", "n.yaml:1: <%= ENV['A'] || 'b' %>: of ERB only"),
        ("a: <%# note %>", "n.yaml:1: <%# note %>: of ERB only"),
        ("a: <%= ENV.fetch('NONE') %>", "n.yaml:1: <%= ENV.fetch('NONE') %>: the environment variable NONE is not set"),
        ("a: <%= ENV['LINES'] %>", "n.yaml:1: <%= ENV['LINES'] %>: the value of LINES has more than one line"),
        ("a: <%= ENV['X']", "n.yaml:1: <%: of ERB only"),
    ],
)
def test_other_erb_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse(text, "n.yaml", ENV)
    assert str(raised.value).startswith(message)
