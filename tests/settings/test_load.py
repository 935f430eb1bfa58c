"""A file becomes settings, or every fault in it becomes a sentence with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dockstack.documents import parse
from dockstack.errors import ConfigurationError
from dockstack.model import Address
from dockstack.settings import load
from dockstack.settings.discovery import (
    DnsDiscovery,
    DockerDiscovery,
    Ec2tagDiscovery,
    MarathonDiscovery,
    PluginDiscovery,
    ZookeeperDnsPollDiscovery,
)
from dockstack.settings.nerve import ContainerService, HttpCheck, NerveSettings, PluginCheck
from dockstack.settings.synapse import SynapseSettings

SERVICE = "services:\n  a:\n    host: h\n    port: 80\n    zk_hosts: [z]\n    zk_path: /x\n"
KNOWN = (
    "base, zookeeper, zookeeper_poll, etcd, file, ec2tag, awstag, docker, dns, zookeeper_dns, zookeeper_dns_poll, "
    "marathon, multi"
)
HAPROXY = "haproxy: {global: [], defaults: [], do_socket: false, config_file_path: /h.cfg}\n"


def nerve(text: str, lenient: bool = False, **env: str) -> tuple[NerveSettings, list[str]]:
    loaded = load.nerve(parse(text, "n", env), lenient)
    return loaded.settings, [str(warning) for warning in loaded.warnings]


def synapse(text: str, lenient: bool = False) -> tuple[SynapseSettings, list[str]]:
    loaded = load.synapse(parse(text, "s", {}), lenient)
    return loaded.settings, [str(warning) for warning in loaded.warnings]


def nerve_faults(text: str, lenient: bool = False) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        nerve(text, lenient)
    return [str(problem) for problem in raised.value.problems]


def synapse_faults(text: str, lenient: bool = False) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        synapse(text, lenient)
    return [str(problem) for problem in raised.value.problems]


def test_the_defaults_of_nerve() -> None:
    settings, warnings = nerve("instance_id: i\n" + SERVICE + "    checks: [{type: tcp}, {type: http, uri: /}]\n")
    assert warnings == []
    service = settings.services["a"]
    assert (service.reporter_type, service.check_interval, service.check_mocked) == ("zookeeper", 0.5, False)
    assert (service.node_type, service.use_path_encoding, service.weight) == ("ephemeral_sequential", False, None)
    tcp, http = service.checks
    assert (tcp.timeout, tcp.rise, tcp.fall, tcp.strict_rise) == (0.1, 1, 1, False)
    assert isinstance(http, HttpCheck)
    assert (http.open_timeout, http.ssl_timeout, http.read_timeout, http.verify) == (0.2, 0.2, None, False)
    assert settings.max_repeated_report_failures == 10


def test_the_defaults_of_synapse() -> None:
    settings, warnings = synapse(
        "services: {a: {discovery: {method: base}}}\nhaproxy:\n  global: maxconn 5\n"
        + """
  defaults: []
  config_file_path: /h.cfg
  socket_file_path: /s
"""
    )
    assert warnings == []
    top = settings.haproxy
    assert top is not None
    assert (top.global_, top.defaults, top.bind_address) == (("maxconn 5",), (), "localhost")
    assert (top.do_writes, top.do_reloads, top.do_socket, top.do_checks) == (True, True, True, False)
    assert (top.restart_interval, top.restart_jitter, top.state_file_ttl, top.max_server_id) == (2, 0, 86400, 65535)
    service = settings.services["a"]
    assert (service.use_previous_backends, service.keep_default_servers, service.leader_election) == (
        True,
        False,
        False,
    )
    assert not service.haproxy.listens


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("host: 5", "n:3: services.a.host: must be text; YAML reads it as 5, so write it in quotes"),
        ("host: yes", "n:3: services.a.host: must be text; YAML reads it as true, so write it in quotes"),
        ("host:", "n:3: services.a.host: must be text, not null"),
        ("port: 0", "n:3: services.a.port: port 0 is not between 1 and 65535"),
        ("port: 99999", "n:3: services.a.port: port 99999 is not between 1 and 65535"),
        ("port: http", "n:3: services.a.port: port http is not between 1 and 65535"),
        ("port: 1.5", "n:3: services.a.port: must be a port, a whole number between 1 and 65535"),
        ("port: yes", "n:3: services.a.port: must be a port, a whole number between 1 and 65535"),
        ("port:", "n:3: services.a.port: must be a port, a whole number between 1 and 65535"),
        ("checks: 5", "n:3: services.a.checks: must be a list, not 5"),
        ("checks: [5]", "n:3: services.a.checks[0]: has no type, which says what it is"),
        ("checks: [{}]", "n:3: services.a.checks[0]: has no type, which says what it is"),
        (
            "checks: [{type: 5}]",
            'n:3: services.a.checks[0]: unknown type "5"; known: tcp, http, mysql, rabbitmq, redis, postgresql, grpc, '
            "exec, docker, noop",
        ),
        ("checks: [{type: tpc}]", 'n:3: services.a.checks[0]: unknown type "tpc"; did you mean tcp?'),
        (
            "checks: [{type: redis, role: primary}]",
            'n:3: services.a.checks[0].role: "primary" is none of master, slave, replica',
        ),
        ("checks: [{type: redis, tls: 5}]", "n:3: services.a.checks[0].tls: must be a map, not 5"),
        (
            "checks: [{type: redis, tls: {veryfy: false}}]",
            "n:3: services.a.checks[0].tls.veryfy: unknown key; did you mean verify?",
        ),
        ("checks: [{type: exec}]", "n:3: services.a.checks[0].command: is missing"),
        ("checks: [{type: exec, command: []}]", "n:3: services.a.checks[0].command: must not be empty"),
        ("checks: [{type: exec, command: ' '}]", "n:3: services.a.checks[0].command: must not be empty"),
        (
            "checks: [{type: exec, command: [sleep, 5]}]",
            "n:3: services.a.checks[0].command: must be text for /bin/sh, or a list of words, numbers among them in "
            "quotes",
        ),
        (
            "checks: [{type: grpc, password: x}]",
            "n:3: services.a.checks[0].password: unknown key; remove it, or allow it with --unknown-keys warn",
        ),
        ("checks: [{type: http}]", "n:3: services.a.checks[0].uri: is missing"),
        ("checks: [{type: tcp, fail: 2}]", "n:3: services.a.checks[0].fail: unknown key; did you mean fall?"),
        (
            "checks: [{type: tcp, uri: /}]",
            "n:3: services.a.checks[0].uri: unknown key; remove it, or allow it with --unknown-keys warn",
        ),
        ("checks: [{type: tcp, rise: 0}]", "n:3: services.a.checks[0].rise: must be at least 1, not 0"),
        ("checks: [{type: tcp, rise: true}]", "n:3: services.a.checks[0].rise: must be a number, not true"),
        ("checks: [{type: tcp, rise: 1.5}]", "n:3: services.a.checks[0].rise: must be a whole number, not 1.5"),
        ("checks: [{type: tcp, timeout: a}]", 'n:3: services.a.checks[0].timeout: must be a number, not "a"'),
        ("checks: [{type: tcp, timeout: -1}]", "n:3: services.a.checks[0].timeout: must be at least 0, not -1"),
        (
            "checks: [{type: tcp, timeout: 0}]",
            "n:3: services.a.checks[0].timeout: is 0, which is no limit at all in SmartStack's nerve; every check has "
            "one here: give the seconds",
        ),
        (
            "zk_path: /a/../b",
            "n:3: services.a.zk_path: has the part .. in it, which ZooKeeper refuses: write the path from the root",
        ),
        ("zk_path: /a/./b", "n:3: services.a.zk_path: has the part . in it, which ZooKeeper refuses: write the path "
         "from the root"),
        ('zk_path: "/a\\tb"', r"n:3: services.a.zk_path: has '\t' in it, which ZooKeeper refuses"),
        (
            "file_path: /a/../b",
            "n:3: services.a.file_path: has the part .. in it, which begins with a dot: name it otherwise",
        ),
        ("checks: [{type: mysql, password: []}]", "n:3: services.a.checks[0].password: must be text"),
        ("check_interval: 0", "n:3: services.a.check_interval: must be above 0, not 0"),
        ("check_mocked: 'false'", "n:3: services.a.check_mocked: must be true or false, without quotes"),
        ("weight: -1", "n:3: services.a.weight: must be at least 0, not -1"),
        ("labels: [a]", "n:3: services.a.labels: must be a map, not a list"),
        (
            'haproxy_server_options: "a\\nb"',
            "n:3: services.a.haproxy_server_options: has a line break in it; it is one line",
        ),
        (
            "node_type: ephemral",
            'n:3: services.a.node_type: "ephemral" is none of ephemeral_sequential, persistent_sequential, persistent, '
            "ephemeral; did you mean ephemeral?",
        ),
        (
            "rate_limiting: {max_burst: 0.5}",
            "n:3: services.a.rate_limiting.max_burst: must be at least 1, not 0.5",
        ),
        (
            "load_test_concurrency: 0",
            "n:3: services.a.load_test_concurrency: must be at least 1, not 0",
        ),
        ("zk_host: [a]", "n:3: services.a.zk_host: unknown key; did you mean zk_hosts?"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_service_of_nerve(line: str, fault: str) -> None:
    base = {"host": "host: h", "port": "port: 80"}
    kept = [text for key, text in base.items() if not line.startswith(f"{key}:")]
    text = "\n    ".join(["services:\n  a:", line, *kept])
    assert nerve_faults(f"{text}\ninstance_id: i\n") == [fault]


def test_everything_is_told_at_once() -> None:
    assert nerve_faults("statd: {}\nservices:\n  a: {host: h}\n  b:\n  c: []\n") == [
        "n:1: instance_id: is missing",
        "n:3: services.a.port: is missing",
        "n:4: services.b: must be a map, not null",
        "n:5: services.c: must be a map, not a list",
        "n:1: statd: unknown key; did you mean statsd?",
    ]
    assert nerve_faults("services: 5\ninstance_id: ''\n") == [
        "n:2: instance_id: must not be empty",
        "n:1: services: must be a map, not 5",
    ]


def test_a_key_without_a_value_means_its_default() -> None:
    settings, warnings = nerve("instance_id: i\n" + SERVICE + "    checks:\n    check_interval: ~\n    node_type:\n")
    assert warnings == []
    assert (settings.services["a"].checks, settings.services["a"].check_interval) == ((), 0.5)


def test_null_keeps_its_meaning_where_it_has_one() -> None:
    settings, _ = nerve("instance_id: i\n" + SERVICE + "    labels:\n    haproxy_server_options:\n    weight:\n")
    assert {"labels", "haproxy_server_options", "weight"} <= settings.services["a"].model_fields_set


def test_numbers_in_quotes_are_taken_with_one_warning() -> None:
    text = SERVICE + '    weight: "007"\n    checks: [{type: tcp, timeout: "0.2", rise: "3"}]\ninstance_id: i\n'
    settings, warnings = nerve(text)
    service = settings.services["a"]
    assert (service.weight, service.checks[0].timeout, service.checks[0].rise) == (7, 0.2, 3)
    assert warnings == [
        "n:1: numbers in quotes are read as numbers: services.a.checks[0].timeout, services.a.checks[0].rise, "
        "services.a.weight"
    ]


def test_a_port_keeps_its_type() -> None:
    assert nerve("instance_id: i\n" + SERVICE)[0].services["a"].model_dump()["port"] == 80
    settings, warnings = nerve("instance_id: i\n" + SERVICE.replace("80", "'80'"))
    assert (settings.services["a"].model_dump()["port"], warnings) == ("80", [])


def test_a_service_of_a_container() -> None:
    text = "services:\n  a: {container: db, container_port: 3306, host: h}\ninstance_id: i\n"
    service = nerve(text)[0].services["a"]
    assert isinstance(service, ContainerService)
    assert (service.container, service.container_port, service.host, service.advertise) == ("db", 3306, "h", "host")
    placed = service.at(Address("h", 49153))
    assert (placed.host, placed.port, placed.model_fields_set) == ("h", 49153, {"host", "port"})


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("container: db, host: h", "n:2: services.a.container_port: is missing"),
        (
            "container: db, container_port: 3306",
            "n:2: services.a: host is missing: the address under which others reach this host's published ports",
        ),
        (
            "container: db, container_port: 3306, host: h, port: 80",
            "n:2: services.a.port: cannot stand beside the other keys here; remove it, or allow it with "
            "--unknown-keys warn",
        ),
        (
            "container: db, container_port: 3306, host: h, advertise: dokcer",
            "n:2: services.a.advertise: 'dokcer' is none of host, docker and docker:NETWORK",
        ),
        (
            "container: db, container_port: 0, host: h",
            "n:2: services.a.container_port: port 0 is not between 1 and 65535",
        ),
        (
            "container_port: 80, host: h, port: 80",
            "n:2: services.a.container_port: cannot stand beside the other keys here; remove it, or allow it with "
            "--unknown-keys warn",
        ),
    ],
)
def test_what_is_wrong_in_a_service_of_a_container(line: str, fault: str) -> None:
    assert nerve_faults(f"services:\n  a: {{{line}}}\ninstance_id: i\n") == [fault]


def test_the_environment_gives_what_is_wanted() -> None:
    text = (
        SERVICE.replace("80", "${PORT}")
        + """
    check_mocked: ${MOCKED}
    weight: "${WEIGHT}"
    checks: [{type: mysql, username: u, password: "${PASSWORD}", rise: "${WEIGHT}"}]
instance_id: ${PASSWORD}
"""
    )
    settings, warnings = nerve(text, PORT="3306", MOCKED="yes", WEIGHT="3", PASSWORD="0123")
    service = settings.services["a"]
    assert (service.model_dump()["port"], service.check_mocked, service.weight, service.checks[0].rise) == (
        3306,
        True,
        3,
        3,
    )
    assert (service.checks[0].model_dump()["password"], settings.instance_id) == ("0123", "0123")
    assert warnings == []


def test_text_made_of_digits_needs_no_quotes() -> None:
    text = SERVICE + "    checks: [{type: http, uri: /, expect: 200, headers: {A: 1}}]\ninstance_id: 5\n"
    settings, _ = nerve(text)
    (check,) = settings.services["a"].checks
    assert isinstance(check, HttpCheck)
    assert (settings.instance_id, check.expect, check.headers) == ("5", "200", {"A": "1"})


def test_only_literal_true_encodes_paths() -> None:
    for text, value in (("true", True), ("'true'", False), ("1", False), ("false", False)):
        settings, warnings = nerve("instance_id: i\n" + SERVICE + f"    use_path_encoding: {text}\n")
        assert (settings.services["a"].use_path_encoding, warnings) == (value, [])


def test_a_check_of_somebody_else_has_keys_of_its_own() -> None:
    settings, _ = nerve("instance_id: i\n" + SERVICE + "    checks: [{type: tcp, module: theirs, depth: 5}]\n")
    (check,) = settings.services["a"].checks
    assert isinstance(check, PluginCheck)
    assert (check.module, check.model_extra) == ("theirs", {"depth": 5})


def test_unknown_keys_can_be_warnings() -> None:
    text = (
        "instance_id: i\nfoo: 1\n"
        + SERVICE
        + "    bar: {}\n    checks: [{type: tcp, fail: 2}, {type: tcp, x: 1, y: 2}]\n"
    )
    settings, warnings = nerve(text, lenient=True)
    assert len(settings.services["a"].checks) == 2
    assert warnings == [
        "n:10: services.a.checks[0].fail: unknown key, ignored",
        "n:10: services.a.checks[1].x: unknown key, ignored",
        "n:10: services.a.checks[1].y: unknown key, ignored",
        "n:9: services.a.bar: unknown key, ignored",
        "n:2: foo: unknown key, ignored",
    ]
    assert nerve_faults(text + "    weight: x\n", lenient=True) == [
        'n:11: services.a.weight: must be a whole number, not "x"'
    ]


@pytest.mark.parametrize(
    ("service", "fault"),
    [
        ("{}", "s:1: services.a.discovery: is missing"),
        ("{discovery: {}}", "s:1: services.a.discovery: has no method, which says what it is"),
        (
            "{discovery: {method: zk}}",
            f's:1: services.a.discovery: unknown method "zk"; known: {KNOWN}',
        ),
        (
            "{discovery: {method: zookeeper, path: /x, hosts: null}}",
            "s:1: services.a.discovery.hosts: must be a list, not null",
        ),
        (
            "{discovery: {method: zookeeper, path: /x, hosts: []}}",
            "s:1: services.a.discovery.hosts: must not be empty",
        ),
        ("{discovery: {method: zookeeper, path: /x}}", "s:1: services.a.discovery.hosts: is missing"),
        (
            "{discovery: {method: zookeeper, path: /x, hosts: ['h:0']}}",
            "s:1: services.a.discovery.hosts: 'h:0': port '0' is not between 1 and 65535",
        ),
        (
            "{discovery: {method: zookeeper, path: x, hosts: h}}",
            "s:1: services.a.discovery.path: 'x' does not begin with a slash",
        ),
        (
            "{discovery: {method: base, label_filters: [{label: a, value: b, condition: like}]}}",
            's:1: services.a.discovery.label_filters[0].condition: "like" is none of equals, not-equals',
        ),
        (
            "{discovery: {method: base}, haproxy: {server_options: 'check addr %{ip}'}}",
            "s:1: services.a.haproxy.server_options: unknown variable %{ip}; "
            "known are %{host}, %{port}, %{name} and %%",
        ),
        (
            "{discovery: {method: base}, haproxy: {server_options: 'weight 50%'}}",
            "s:1: services.a.haproxy.server_options: `%` begins no variable in `%`; write `%%` for a percent sign",
        ),
        (
            "{discovery: {method: base}, default_servers: [{host: h, port: 1, haproxy_server_options: '%{x}'}]}",
            "s:1: services.a.default_servers[0].haproxy_server_options: unknown variable %{x}; "
            "known are %{host}, %{port}, %{name} and %%",
        ),
        (
            "{discovery: {method: base}, haproxy: {port: null}}",
            "s:1: services.a.haproxy.port: is null, so bind_address must be the whole address",
        ),
        (
            '{discovery: {method: base}, haproxy: {listen: "mode http\\nbalance first"}}',
            "s:1: services.a.haproxy.listen: line 1 of them has a line break in it: write a list, each line an item of "
            "its own",
        ),
        (
            "{discovery: {method: base}, discovery_multi: {}}",
            "s:1: services.a.discovery_multi.resolver: is missing",
        ),
        (
            "{discovery: {method: base}, discovery_multi: {resolver: {method: unoin}}}",
            's:1: services.a.discovery_multi.resolver: unknown method "unoin"; did you mean union?',
        ),
        (
            "{discovery: {method: base}, discovery_multi: {resolver: {method: s3_toggle, s3_url: 's3://b/', "
            "s3_polling_interval_seconds: 5}}}",
            "s:1: services.a.discovery_multi.resolver.s3_url: 's3://b/' is not written as s3://BUCKET/KEY",
        ),
        (
            "{discovery: {method: base}, discovery_multi: {resolver: {method: s3_toggle, s3_url: 's3://b/k', "
            "s3_polling_interval_seconds: 0}}}",
            "s:1: services.a.discovery_multi.resolver.s3_polling_interval_seconds: must be above 0, not 0",
        ),
        (
            "{discovery: {method: multi, watchers: {x: {method: base}}, resolver: {method: s3_toggle, "
            "s3_url: 's3://b/k', s3_polling_interval_seconds: 5}}}",
            "s:1: services.a.discovery.resolver: s3_toggle begins with the watcher primary, "
            "and there is none of this name",
        ),
        (
            "{discovery: {method: ec2tag, tag_name: a, tag_value: b}}",
            "s:1: services.a.backend_port_override: is missing: ec2tag finds hosts, "
            "and not the port on which they serve",
        ),
        (
            "{discovery: {method: base}, discovery_multi: {resolver: {method: union}, watchers: {"
            "b: {method: awstag, tag_name: a, tag_value: b}}}}",
            "s:1: services.a.backend_port_override: is missing: awstag finds hosts, "
            "and not the port on which they serve",
        ),
        (
            "{discovery: {method: docker, servers: [{port: 1}], image_name: i, container_port: 80}}",
            "s:1: services.a.discovery.servers[0]: has a port and no host; "
            "without a host it is the engine of DOCKER_HOST",
        ),
        (
            "{discovery: {method: docker, servers: [], image_name: i, container_port: 80}}",
            "s:1: services.a.discovery.servers: must not be empty",
        ),
        (
            "{discovery: {method: docker, servers: [{host: 'a b'}], image_name: i, container_port: 80}}",
            "s:1: services.a.discovery.servers[0].host: 'a b' is neither a host name nor an IP address",
        ),
        (
            "{backend_port_override: 1, discovery: {method: ec2tag, tag_name: '', tag_value: b}}",
            "s:1: services.a.discovery.tag_name: must not be empty",
        ),
        (
            "{backend_port_override: 1, discovery: {method: ec2tag, tag_name: a, tag_value: b, "
            "aws_secret_access_key: [x]}}",
            "s:1: services.a.discovery.aws_secret_access_key: must be text",
        ),
        (
            "{discovery: {method: base}, discovery_multi: {watchers: {b: {method: base}}, "
            "resolver: {method: sequential, sequential_order: [b, c, b]}}}",
            "s:1: services.a.discovery_multi.resolver.sequential_order: must name every watcher once (b, primary): "
            "there is no watcher 'c'; the watcher 'primary' is missing; the watcher 'b' stands in it twice",
        ),
        (
            "{discovery: {method: multi, watchers: {x: {method: base}}, resolver: {method: sequential, "
            "sequential_order: []}}}",
            "s:1: services.a.discovery.resolver.sequential_order: must name every watcher once (x): "
            "the watcher 'x' is missing",
        ),
        (
            "{discovery: {method: multi, watchers: {}, resolver: {method: union}}}",
            "s:1: services.a.discovery.watchers: must not be empty",
        ),
        (
            "{discovery: {method: multi, watchers: {x: {method: base}}, resolver: {method: union}}, "
            "discovery_multi: {resolver: {method: union}}}",
            "s:1: services.a.discovery.method: must be one source beside discovery_multi, where it is the watcher "
            "primary; not a multi",
        ),
        (
            "{discovery: {method: base}, discovery_multi: {watchers: {b: {method: zookeeper, hosts: [h], path: x}}, "
            "resolver: {method: union}}}",
            "s:1: services.a.discovery_multi.watchers.b.path: 'x' does not begin with a slash",
        ),
        ("{discovery: {method: dns, servers: []}}", "s:1: services.a.discovery.servers: must not be empty"),
        (
            "{discovery: {method: dns, servers: [{host: a.test}]}}",
            "s:1: services.a.discovery.servers[0].port: is missing: only names such as _http._tcp.example.com have "
            "ports in DNS",
        ),
        (
            "{discovery: {method: dns, servers: [{host: 'a b', port: 1}]}}",
            "s:1: services.a.discovery.servers[0].host: 'a b' is neither a host name nor an IP address",
        ),
        (
            "{discovery: {method: dns, servers: [{host: a, port: 1, nmae: x}]}}",
            "s:1: services.a.discovery.servers[0].nmae: unknown key; did you mean name?",
        ),
        (
            "{discovery: {method: dns, servers: [{host: a, port: 1}], nameserver: 'h:x'}}",
            "s:1: services.a.discovery.nameserver: 'h:x': port 'x' is not between 1 and 65535",
        ),
        (
            "{discovery: {method: zookeeper_dns, hosts: [h], path: /x, nameserver: h/x}}",
            "s:1: services.a.discovery.nameserver: '/x' cannot stand behind a host",
        ),
        (
            "{discovery: {method: zookeeper_dns_poll, hosts: [h], path: x}}",
            "s:1: services.a.discovery.path: 'x' does not begin with a slash",
        ),
        (
            "{discovery: {method: zookeeper, hosts: [h], path: /x/../y}}",
            "s:1: services.a.discovery.path: has the part .. in it, which ZooKeeper refuses: write the path from the "
            "root",
        ),
        (
            "{discovery: {method: file, directory: /d, path: /.x}}",
            "s:1: services.a.discovery.path: has the part .x in it, which begins with a dot: name it otherwise",
        ),
        (
            "{discovery: {method: marathon, marathon_api_url: 'http://h', application_name: a, port_index: -1}}",
            "s:1: services.a.discovery.port_index: must be at least 0, not -1",
        ),
        (
            "{discovery: {method: marathon, marathon_api_url: 'me:secret@h:8080', application_name: a}}",
            "s:1: services.a.discovery.marathon_api_url: must be http://HOST:PORT or https://HOST:PORT",
        ),
        (
            "{discovery: {method: marathon, marathon_api_url: 'http://h', application_name: a, "
            "marathon_api_path: '/%{ap}'}}",
            "s:1: services.a.discovery.marathon_api_path: `%` begins no variable in `%{ap}`; there is %{app}, and "
            "%% is a percent sign",
        ),
        (
            "{discovery: {method: zookeeper_poll, hosts: [h], path: /x, polling_interval_sec: -1}}",
            "s:1: services.a.discovery.polling_interval_sec: must be at least 0, not -1",
        ),
    ],
)
def test_what_is_wrong_in_a_service_of_synapse(service: str, fault: str) -> None:
    assert synapse_faults(f"services: {{a: {service}}}\n{HAPROXY}") == [fault]


@pytest.mark.parametrize(
    ("haproxy", "faults"),
    [
        ("{}", ["s:1: haproxy.global: is missing", "s:1: haproxy.defaults: is missing"]),
        (
            "{global: [], defaults: []}",
            [
                "s:1: haproxy: config_file_path is missing: name the file to write, or set do_writes to false",
                "s:1: haproxy: socket_file_path is missing: name HAProxy's stats socket, or set do_socket to false",
            ],
        ),
        (
            "{global: [], defaults: [], do_writes: 'no', do_socket: false, do_reload: true}",
            [
                "s:1: haproxy.do_writes: must be true or false, without quotes",
                "s:1: haproxy.do_reload: unknown key; did you mean do_reloads?",
            ],
        ),
    ],
)
def test_what_is_wrong_in_the_top_section(haproxy: str, faults: list[str]) -> None:
    assert synapse_faults(f"haproxy: {haproxy}\n") == faults


def test_the_defaults_of_what_is_asked_again_and_again() -> None:
    text = """
services:
  dns: {discovery: {method: dns, servers: [{host: a.test, port: '80', labels: {x: 1}}, {host: _a._tcp.test}]}}
  names: {discovery: {method: zookeeper_dns_poll, hosts: h, path: /x, nameserver: '10.0.0.1'}}
  tasks: {discovery: {method: marathon, marathon_api_url: 'http://h', application_name: a}}
  plain: {backend_port_override: 80, discovery: {method: dns, servers: [{host: a.test}]}}
"""
    settings, warnings = synapse(text + HAPROXY)
    dns, names, tasks, _ = (own.discovery for own in settings.services.values())
    assert warnings == []
    assert isinstance(dns, DnsDiscovery)
    assert (dns.check_interval, dns.nameserver, dns.servers[0].port) == (30, (), "80")
    assert [server.has_services for server in dns.servers] == [False, True]
    assert isinstance(names, ZookeeperDnsPollDiscovery)
    assert (names.check_interval, names.nameserver, names.polling_interval_sec) == (30, ("10.0.0.1",), 60)
    assert isinstance(tasks, MarathonDiscovery)
    assert (tasks.check_interval, tasks.port_index, tasks.marathon_api_path) == (10, 0, "/v2/apps/%{app}/tasks")


def with_plugins(text: str, lenient: bool = False) -> SynapseSettings:
    """The settings where the watcher `acme` and the output `acme` are installed."""
    return load.synapse(parse(text, "s", {}), lenient, lambda group, name: name == "acme").settings


def test_a_method_that_is_installed_has_its_own_keys() -> None:
    acme = "{method: acme, place: {x: [1]}, label_filter: {label: l, value: v}}"
    settings = with_plugins(
        f"services: {{a: {{discovery: {acme}}}, b: {{discovery: {{method: multi, watchers: {{x: {acme}}}, resolver: "
        f"{{method: union}}}}}}, c: {{discovery: {{method: base}}, discovery_multi: {{watchers: {{x: {acme}}}, "
        f"resolver: {{method: union}}}}}}}}\n{HAPROXY}"
    )
    a = settings.services["a"].discovery
    assert isinstance(a, PluginDiscovery)
    assert a.model_extra == {"place": {"x": [1]}}
    assert a.filters[0].label == "l"
    assert settings.services["b"].watchers == {"x": a}
    assert settings.services["c"].watchers["x"] == a


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            "{discovery: {method: acme, label_filters: 5}}",
            ["s:1: services.a.discovery.label_filters: must be a list, not 5"],
        ),
        (
            "{discovery: {method: multi, watchers: {x: {method: acme, generator_config_path: 5}}, "
            "resolver: {method: union}}}",
            [
                "s:1: services.a.discovery.watchers.x.generator_config_path: must be text; YAML reads it as 5, "
                "so write it in quotes"
            ],
        ),
        (
            "{discovery: {method: amce}}",
            [f's:1: services.a.discovery: unknown method "amce"; known: {KNOWN}'],
        ),
        (
            "{discovery: {method: base}, acme: 5}",
            ["s:1: services.a.acme: must be a map: it is a section of the output of this name"],
        ),
    ],
)
def test_what_is_wrong_about_a_plug_in(text: str, faults: list[str]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        with_plugins(f"services: {{a: {text}}}\n{HAPROXY}")
    assert [str(problem) for problem in raised.value.problems] == faults


def test_an_output_that_is_installed_has_a_section_of_its_own() -> None:
    text = "services: {a: {discovery: {method: base}, acme: {x: 1}}}\nacme:\n  y: [2]\n"
    settings = with_plugins(text)
    assert settings.sections == {"acme": {"y": [2]}}
    assert settings.services["a"].sections == {"acme": {"x": 1}}
    assert with_plugins(text) == settings
    assert with_plugins(text.replace("1", "3")).services["a"] != settings.services["a"]
    assert with_plugins("acme:\n").sections == {"acme": None}
    assert with_plugins(f"nginx: {{}}\nacme: {{}}\n{HAPROXY}", lenient=True).sections == {"acme": {}}
    with pytest.raises(ConfigurationError, match="s:1: acme: must be a map"):
        with_plugins("acme: 5\n")
    assert synapse_faults(text)[0].startswith("s:1: services.a.acme: unknown key")


def test_an_output_is_needed_and_an_unknown_one_is_none() -> None:
    assert synapse_faults("services: {}\n") == ["s:1: there is no output: give a `haproxy` or a `file_output` section"]
    assert synapse_faults(f"{HAPROXY}nginx: {{}}\n") == [
        "s:2: nginx: unknown key, and there is no output of this name; remove it, or allow it with --unknown-keys warn"
    ]
    assert synapse("file_output: {output_directory: /x}\n")[0].file_output is not None


def services(**haproxy: str) -> str:
    inner = ", ".join(f"{name}: {{discovery: {{method: base}}, haproxy: {text}}}" for name, text in haproxy.items())
    return f"services: {{{inner}}}\n{HAPROXY}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{port: 80}", "{port: 80}"),
        ("{port: 80}", "{port: '80'}"),
        ("{port: 80}", "{port: 80, bind_address: 127.0.0.1}"),
        ("{port: 80, bind_address: '*'}", "{port: 80, bind_address: 0.0.0.0}"),
        ("{port: 80, bind_address: '::1'}", "{port: 80, bind_address: '[::1]'}"),
        ("{port: null, bind_address: /x.sock}", "{port: null, bind_address: /x.sock}"),
        ("{port: null, bind_address: '127.0.0.1:80'}", "{port: 80}"),
    ],
)
def test_two_services_on_one_address_are_refused_by_name(one: str, other: str) -> None:
    (fault,) = synapse_faults(services(a=one, b=other))
    assert fault.startswith("s:1: services.b.haproxy.port: b would bind ")
    assert "as a does; give one of them another port" in fault


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{port: 80}", "{port: 81}"),
        ("{port: 80}", "{port: 80, bind_address: 127.0.0.2}"),
        ("{port: 80}", "{port: 80, disabled: true}"),
        ("{}", "{}"),
    ],
)
def test_services_on_different_addresses_are_fine(one: str, other: str) -> None:
    assert len(synapse(services(a=one, b=other))[0].services) == 2


@pytest.mark.parametrize("address", ["/tmp/x.sock", "unix@/tmp/x.sock", "10.0.0.1:80", "'[::1]:80'"])
def test_without_a_port_the_address_of_the_top_section_may_be_the_whole(address: str) -> None:
    text = services(a="{port: null}").replace("haproxy: {global", f"haproxy: {{bind_address: {address}, global")
    settings, _ = synapse(text)
    assert settings.haproxy is not None
    assert load.bind_of(settings.haproxy, settings.services["a"].haproxy) == address.strip("'")


@pytest.mark.parametrize("address", ["0.0.0.0", "'::1'", "'*'", "localhost"])
def test_without_a_port_a_host_of_the_top_section_is_no_address(address: str) -> None:
    text = services(a="{port: null}").replace("haproxy: {global", f"haproxy: {{bind_address: {address}, global")
    assert synapse_faults(text) == ["s:1: services.a.haproxy.port: is null, so bind_address must be the whole address"]


@pytest.mark.parametrize(
    ("bind", "page", "clash"),
    [
        ("{port: 8080}", "127.0.0.1:8080", True),
        ("{port: 8080, bind_address: 0.0.0.0}", "127.0.0.1:8080", True),
        ("{port: 8080, bind_address: 127.0.0.1}", "0.0.0.0:8080", True),
        ("{port: 8080, bind_address: 10.0.0.1}", "127.0.0.1:8080", False),
        ("{port: 8081}", "127.0.0.1:8080", False),
    ],
)
def test_the_statistics_page_hides_no_service(bind: str, page: str, clash: bool) -> None:
    text = services(a=bind).replace(
        "do_socket", f"extra_sections: {{listen dockstack-stats: [bind {page}]}}, do_socket"
    )
    if clash:
        (fault,) = synapse_faults(text)
        assert "where the statistics page is: move it, or --stats off" in fault
    else:
        synapse(text)


def test_weights_from_nerve_are_not_a_services_own_matter() -> None:
    _, warnings = synapse(services(a="{use_nerve_weights: true}"))
    assert warnings == [
        "s:1: services.a.haproxy.use_nerve_weights: has no effect in a service; write it in the top haproxy section"
    ]


def test_a_name_that_haproxy_does_not_take_is_refused() -> None:
    assert synapse_faults(services().replace("{}", "{a b: {discovery: {method: base}}}")) == [
        "s:1: services.a b: a service's name is made of letters, digits and _ . : -"
    ]


def test_what_several_watchers_leave_without_effect_is_said() -> None:
    multi = "{watchers: {primary: {method: base}}, label_filters: [], resolver: {method: union}}"
    text = f"services: {{a: {{discovery: {{method: base}}, discovery_multi: {multi}}}}}\n{HAPROXY}"
    settings, warnings = synapse(text)
    assert warnings == [
        "s:1: services.a.discovery_multi.watchers.primary: is ignored: the watcher primary is the service's "
        "`discovery`",
        "s:1: services.a.discovery_multi.label_filters: has no effect here; write it in each watcher",
    ]
    assert list(settings.services["a"].watchers) == ["primary"]


def test_the_primary_watcher_is_the_last() -> None:
    multi = "{watchers: {b: {method: base}, c: {method: base}}, resolver: {method: union}}"
    settings, warnings = synapse(
        f"services: {{a: {{discovery: {{method: base}}, discovery_multi: {multi}}}}}\n{HAPROXY}"
    )
    assert warnings == []
    assert list(settings.services["a"].watchers) == ["b", "c", "primary"]


def test_sources_elsewhere_stand_beside_others() -> None:
    settings, warnings = synapse(
        HAPROXY
        + """
services:
  a:
    haproxy: {server_port_override: 80}
    discovery: {method: ec2tag, tag_name: role, tag_value: 7}
    discovery_multi:
      watchers:
        d: {method: docker, servers: [{name: n, host: h}, {}], image_name: web, container_port: "80"}
        e: {method: awstag, tag_name: role, tag_value: x, aws_region: r, aws_access_key_id: k, aws_secret_access_key: s}
      resolver: {method: s3_toggle, s3_url: 's3://b/k/l', s3_polling_interval_seconds: 0.5}
"""
    )
    assert warnings == []
    service = settings.services["a"]
    assert [one.method for one in service.watchers.values()] == ["docker", "awstag", "ec2tag"]
    tagged, contained = service.watchers["primary"], service.watchers["d"]
    assert isinstance(tagged, Ec2tagDiscovery)
    assert (tagged.tag_value, tagged.check_interval, tagged.aws_region) == ("7", 15, None)
    assert isinstance(contained, DockerDiscovery)
    assert [(one.name, one.host, one.port) for one in contained.servers] == [("n", "h", 4243), (None, None, 4243)]
    assert (contained.container_port, contained.check_interval) == ("80", 15)
    assert "aws_secret_access_key=SecretStr('**********')" in repr(settings)


def test_default_servers_keep_the_keys_that_were_given() -> None:
    text = "services: {a: {discovery: {method: base}, default_servers: [{port: '80', name: n, host: h, weight: }]}}\n"
    (server,) = synapse(text + HAPROXY)[0].services["a"].default_servers
    assert list(server.as_given.items()) == [("port", "80"), ("name", "n"), ("host", "h"), ("weight", None)]


# --- service_conf_dir --------------------------------------------------------------------------------------------


def with_files(directory: Path, text: str, **files: str) -> dict[str, Any]:
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(content)
    return load.with_service_files(parse(text, "n", {}), {}).data


def test_service_files_win_over_services(tmp_path: Path) -> None:
    data = with_files(
        tmp_path,
        f"service_conf_dir: {tmp_path}\nservices: {{a: {{port: 1}}, b: {{port: 2}}}}\n",
        a__yaml="port: 3\n",
        c__json='{"port": 4}',
        d__txt="port: 5",
    )
    assert data["services"] == {"a": {"port": 3}, "b": {"port": 2}, "c": {"port": 4}}


def test_services_of_json_files_come_before_those_of_yaml_files(tmp_path: Path) -> None:
    """Their lines in a shared frontend are rules, of which the first counts."""
    data = with_files(
        tmp_path,
        f"service_conf_dir: {tmp_path}\nservices: {{d: {{}}}}\n",
        a__yaml="",
        c__json="{}",
        b__json="{}",
        d__yaml="",
    )
    assert list(data["services"]) == ["d", "b", "c", "a"]


def test_service_files_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    assert with_files(tmp_path / "conf", "service_conf_dir: conf\n", a__yaml="port: 3\n")["services"] == {
        "a": {"port": 3}
    }


def test_service_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"n:1: service_conf_dir: .*/none is no directory"):
        load.with_service_files(parse(f"service_conf_dir: {tmp_path}/none\n", "n", {}), {})
    with pytest.raises(ConfigurationError) as raised:
        with_files(
            tmp_path, f"service_conf_dir: {tmp_path}\n", a__yaml="x: [\n", b__yaml="- 1\n", c__json="{}", c__yaml=""
        )
    assert [problem.where for problem in raised.value.problems] == [
        f"{tmp_path}/a.yaml:2:1",
        f"{tmp_path}/b.yaml:1",
        f"{tmp_path}/c.yaml",
    ]


def test_a_fault_in_a_service_file_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("host: h\nport: 0\n")
    document = load.with_service_files(parse(f"instance_id: i\nservice_conf_dir: {tmp_path}\n", "n", {}), {})
    with pytest.raises(ConfigurationError, match=rf"{tmp_path}/a.yaml:2: services.a.port: port 0 is not"):
        load.nerve(document)


def test_a_service_of_synapse_is_run_as_often_as_it_says() -> None:
    one = "discovery: {method: base}, haproxy: {port: 80}"
    settings, _ = synapse(f"services: {{a: {{load_test_concurrency: 2, {one}}}}}\n{HAPROXY}")
    assert list(settings.services) == ["a_0", "a_1"]
    assert {each.haproxy.port for each in settings.services.values()} == {80}
    other = "a_1: {discovery: {method: base}}"
    assert synapse_faults(f"services: {{a: {{load_test_concurrency: 2, {one}}}, {other}}}\n{HAPROXY}") == [
        "s:1: services.a_1: is run as a_1, as a is: give one of them another name"
    ]


def test_copies_of_a_service_of_nerve_keep_their_names_apart() -> None:
    other = "  a_2: {host: h, port: 81, zk_hosts: [z], zk_path: /y}\n"
    assert nerve_faults(f"instance_id: i\n{SERVICE}    load_test_concurrency: 3\n{other}") == [
        "n:9: services.a_2: is run as a_2, as a is: give one of them another name"
    ]
