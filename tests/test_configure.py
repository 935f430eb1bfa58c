"""The command line, the environment and files together: who wins, and what is told with which place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockstack import configure, templates
from dockstack.configure import Ambassador, Given
from dockstack.errors import ConfigurationError
from dockstack.settings.discovery import ZookeeperDiscovery
from dockstack.settings.nerve import ContainerService, NerveService, NerveSettings
from dockstack.settings.synapse import SynapseSettings

HOST = {"SERVICE_HOST": "10.0.0.1"}
URL = ("zk://h1,h2:2182/nerve",)
SERVICE = "  a: {host: h, port: 80, zk_hosts: [z], zk_path: /a}\n"
FILE = f"instance_id: from-file\nservices:\n{SERVICE}"


def nerve(
    given: Given, env: Mapping[str, str] | None = None, instance_id: str | None = None
) -> tuple[NerveSettings, list[str]]:
    loaded = configure.nerve(given, instance_id, HOST if env is None else env)
    return loaded.settings, [str(warning) for warning in loaded.warnings]


def synapse(given: Given, ambassador: Ambassador | None = None, **env: str) -> SynapseSettings:
    return configure.synapse(given, ambassador or Ambassador(Path("/run/d")), env).settings


def refusals(call: Any, *arguments: Any, **more: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        call(*arguments, **more)
    return [str(problem) for problem in raised.value.problems]


def test_the_walk_through() -> None:
    settings, warnings = nerve(Given(discovery=URL, services=("mysql:tcp:3306:/test",)))
    assert warnings == []
    assert settings.instance_id == "nerve"
    service = settings.services["mysql"]
    assert isinstance(service, NerveService)
    assert (service.host, service.port, service.zk_path) == ("10.0.0.1", 3306, "/nerve/test")
    assert service.zk_hosts == ("h1:2181", "h2:2182")
    discovery = synapse(Given(discovery=URL, services=("mysql:mysql:/test",))).services["mysql"].discovery
    assert isinstance(discovery, ZookeeperDiscovery)
    assert (discovery.hosts, discovery.path) == (("h1:2181", "h2:2182"), "/nerve/test")


def test_numbers_in_quotes_are_told_where_they_were_written() -> None:
    quoted = ('mysql:.check_interval="5"',)
    _, warnings = nerve(Given(discovery=URL, services=("mysql:tcp:3306:/test",), raws=quoted))
    place = f"-s mysql:tcp:3306:/test, -r {quoted[0]}"
    assert warnings == [f"{place}: numbers in quotes are read as numbers: services.mysql.check_interval"]


IN_A_CONTAINER = Given(discovery=URL, services=("mysql:tcp:mysql:3306:/test",))


def test_a_service_in_a_container() -> None:
    service = nerve(IN_A_CONTAINER)[0].services["mysql"]
    assert isinstance(service, ContainerService)
    assert (service.container, service.container_port, service.host) == ("mysql", 3306, "10.0.0.1")
    assert (service.advertise, service.zk_path, service.check_interval) == ("host", "/nerve/test", 2)


def test_a_container_at_its_own_address_needs_no_host() -> None:
    given = replace(IN_A_CONTAINER, advertise="docker:back")
    service = configure.nerve(given, None, {}).settings.services["mysql"]
    assert isinstance(service, ContainerService)
    assert (service.host, service.advertise) == (None, "docker:back")
    both = replace(given, services=(*given.services, "web:tcp:80:/web"))
    assert refusals(configure.nerve, both, None, {})[0].startswith("SERVICE_HOST: is not set")


def test_what_is_wrong_about_the_engine() -> None:
    env = {"SERVICE_HOST": "10.0.0.1", "DOCKER_HOST": "/var/run/docker.sock"}
    wrong = "DOCKER_HOST: '/var/run/docker.sock' is not the address of a Docker engine: unix:///PATH or tcp://HOST:PORT"
    assert refusals(configure.nerve, IN_A_CONTAINER, None, env) == [f"{wrong} is meant"]
    assert configure.nerve(replace(IN_A_CONTAINER, services=("web:tcp:80:/web",)), None, env)
    assert refusals(configure.nerve, replace(IN_A_CONTAINER, advertise="dokcer"), None, env) == [
        "--advertise: 'dokcer' is none of host, docker and docker:NETWORK"
    ]


def test_programs_see_what_a_file_would_hold_and_run_before_validation() -> None:
    given = Given(
        discovery=URL,
        services=("mysql:tcp:3306:/test",),
        raws=("mysql:.check_interval=5|.checks[0].timeout=1", "mysql:.check_interval+=1", "mysql:del(.checks[0].rise)"),
    )
    service = nerve(given)[0].services["mysql"]
    assert (service.check_interval, service.checks[0].timeout, service.checks[0].rise) == (6, 1, 1)
    changed = Given(discovery=URL, services=("m:mysql:/test",), raws=("m:.haproxy.port=13306",))
    assert synapse(changed).services["m"].haproxy.port == 13306


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("m:.checks[", "-r m:.checks[: jq: error: syntax error"),
        ("m:.checks[0].timeout=1 | nosuch", "nosuch/0 is not defined"),
        ("m:.check_interval + {}", "cannot be added"),
        ("m:.host", "the program must give one object"),
        ("m:empty", "the program must give one object"),
        ("m:., .", "the program must give one object"),
        ("m:repeat(.)", "the program must give one object"),
        ("x:.", "there is no service 'x'; services: m"),
    ],
)
def test_a_program_that_fails_is_named(raw: str, message: str) -> None:
    (told,) = refusals(nerve, Given(discovery=URL, services=("m:tcp:80:/m",), raws=(raw,)))
    assert told.startswith(f"-r {raw}: ")
    assert message in told


def test_what_a_program_breaks_names_the_program() -> None:
    given = Given(discovery=URL, services=("m:tcp:80:/m",), raws=("m:.checks[0].fail=2",))
    assert refusals(nerve, given) == [
        "-s m:tcp:80:/m, -r m:.checks[0].fail=2: services.m.checks[0].fail: unknown key; did you mean fall?"
    ]


@pytest.mark.parametrize(
    ("option", "env", "name"),
    [
        ("one", {"NERVE_INSTANCE_ID": "two", "INSTANCE_ID": "three"}, "one"),
        ("", {"NERVE_INSTANCE_ID": "two", "INSTANCE_ID": "three"}, "two"),
        (None, {"NERVE_INSTANCE_ID": "", "INSTANCE_ID": "three"}, "three"),
        (None, {"INSTANCE_ID": ""}, "nerve"),
    ],
)
def test_the_name_to_register_under(option: str | None, env: dict[str, str], name: str, tmp_path: Path) -> None:
    given = Given(discovery=URL, services=("m:tcp:80:/m",))
    assert nerve(given, {**HOST, **env}, option)[0].instance_id == name
    (tmp_path / "n.yaml").write_text(FILE)
    with_file = nerve(Given(config=str(tmp_path / "n.yaml")), {**HOST, **env}, option)[0].instance_id
    assert with_file == (name if name in ("one", "two") else "from-file")


def test_a_file_alone_has_no_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text("services: {}\n")
    assert refusals(nerve, Given(config=str(tmp_path / "n.yaml"))) == [f"{tmp_path}/n.yaml:1: instance_id: is missing"]


def test_a_file_and_services_together(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(FILE)
    given = Given(config=str(tmp_path / "n.yaml"), discovery=URL, services=("m:tcp:80:/m",), raws=("a:.weight=5",))
    settings, _ = nerve(given)
    assert list(settings.services) == ["a", "m"]
    assert settings.services["a"].weight == 5
    twice = Given(config=str(tmp_path / "n.yaml"), discovery=URL, services=("a:tcp:80:/m",))
    assert refusals(nerve, twice) == ["-s a:tcp:80:/m: there are two services called a; names must differ"]


def test_the_file_named_by_the_environment(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(FILE)
    assert list(nerve(Given(), {"NERVE_CONFIG": str(tmp_path / "n.yaml")})[0].services) == ["a"]
    (tmp_path / "s.yaml").write_text("haproxy: {global: [], defaults: [], do_socket: false, config_file_path: /h}\n")
    assert synapse(Given(), SYNAPSE_CONFIG=str(tmp_path / "s.yaml")).haproxy is not None


def test_nothing_to_do() -> None:
    for call in (nerve, synapse):
        (told,) = refusals(call, Given())
        assert "there is nothing to do: give a file with -c FILE, or services" in told


def test_an_address_is_needed() -> None:
    (told,) = refusals(nerve, Given(discovery=URL, services=("m:tcp:80:/m",)), {})
    assert told.startswith("SERVICE_HOST: is not set")


@pytest.mark.parametrize("services", ["services: 5\n", "services: [a]\n"])
def test_a_file_of_the_wrong_shape_with_services(services: str, tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(services)
    given = Given(config=str(tmp_path / "n.yaml"), discovery=URL, services=("m:tcp:80:/m",))
    assert refusals(nerve, given) == [f"{tmp_path}/n.yaml:1: services: must be a map"]


def test_a_registry_without_services_is_doubted(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(FILE)
    assert nerve(Given(config=str(tmp_path / "n.yaml"), discovery=URL))[1] == [
        "-d: has no effect without -s; the services of a file name their own registries"
    ]
    (told,) = refusals(nerve, Given(config=str(tmp_path / "n.yaml"), discovery=("zok://h",)))
    assert "unknown registry scheme" in told


def test_a_path_without_a_slash_is_doubted() -> None:
    settings, warnings = nerve(Given(discovery=URL, services=("m:tcp:80:test",)))
    assert settings.services["m"].zk_path == "/nervetest"
    assert len(warnings) == 1
    assert "/nervetest" in warnings[0]


def test_the_session_timeout_of_the_command_line_wins() -> None:
    given = Given(discovery=("zk://h/n?session_timeout=3",), services=("m:tcp:80:/m",))
    assert nerve(given)[0].services["m"].zk_session_timeout == 3
    longer = Given(discovery=given.discovery, services=given.services, session_timeout=7)
    assert nerve(longer)[0].services["m"].zk_session_timeout == 7


def test_what_is_found_behind_the_settings_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(FILE + "  b:\n    host: h\n    port: 80\n    zk_path: /b\n")
    assert refusals(nerve, Given(config=str(tmp_path / "n.yaml"))) == [
        f"{tmp_path}/n.yaml:4: services.b: zk_hosts is missing: name at least one HOST:PORT"
    ]
    (tmp_path / "s.yaml").write_text(
        "haproxy: {global: [], defaults: [], do_socket: false, config_file_path: /h}\nservices:\n"
        "  a:\n    discovery: {method: base}\n    haproxy:\n      port: 1\n      listen:\n      - block if TRUE\n"
    )
    (told,) = refusals(synapse, Given(config=str(tmp_path / "s.yaml")))
    assert told.startswith(f"{tmp_path}/s.yaml:7: services.a.haproxy.listen: ")
    assert "block" in told


def test_files_of_tls_are_looked_at_before_they_are_needed(tmp_path: Path) -> None:
    """Whoever opens a registry while the daemon runs could only end it."""
    (tmp_path / "junk.pem").write_text("junk")
    zookeeper = "  z: {host: h, port: 80, zk_hosts: [z], zk_path: /a, zk_tls: {ca_file: /none}}\n"
    etcd = "  e: {host: h, port: 80, reporter_type: etcd, etcd_host: h, etcd_tls: {cert_file: junk.pem}}\n"
    file = tmp_path / "n.yaml"
    file.write_text(f"instance_id: i\nservices:\n{zookeeper}{etcd}".replace("junk.pem", str(tmp_path / "junk.pem")))
    first, second = refusals(nerve, Given(config=str(file)))
    assert first == f"{file}:3: services.z.zk_tls: ca_file: /none cannot be used: No such file or directory"
    assert second.startswith(f"{file}:4: services.e.etcd_tls: cert_file: {tmp_path}/junk.pem cannot be used: ")
    plain = "{method: zookeeper, hosts: [z], path: /a, tls: {ca_file: /none}}"
    several = f"{{method: multi, resolver: {{method: union}}, watchers: {{w: {plain}}}}}"
    file.write_text(
        f"services:\n  a: {{discovery: {plain}}}\n  b: {{discovery: {several}}}\nfile_output: {{output_directory: o}}\n"
    )
    assert refusals(synapse, Given(config=str(file))) == [
        f"{file}:2: services.a.discovery.tls: ca_file: /none cannot be used: No such file or directory",
        f"{file}:3: services.b.discovery.watchers.w.tls: ca_file: /none cannot be used: No such file or directory",
    ]
    secure = Given(discovery=("etcds://h/x?ca_file=/none",), services=("mysql:mysql:3306:/test",))
    assert refusals(nerve, secure) == ["-d: ca_file: /none cannot be used: No such file or directory"]


def test_a_file_of_the_other_role_is_told_first(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(FILE)
    first, *rest = refusals(synapse, Given(config=str(file)))
    assert first == f"{file}: seems to be a file of nerve's: dockstack nerve -c {file}"
    assert rest
    file.write_text("services:\n  a: {discovery: {method: base}}\nfile_output: {output_directory: o}\n")
    first, *rest = refusals(nerve, Given(config=str(file)))
    assert first == f"{file}: seems to be a file of synapse's: dockstack synapse -c {file}"
    assert rest
    file.write_text("services:\n  a: {port: 1}\n")
    assert "seems" not in str(refusals(synapse, Given(config=str(file))) + refusals(nerve, Given(config=str(file))))


def test_unknown_keys_can_be_warnings(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(FILE + "foo: 1\n")
    settings, warnings = nerve(Given(config=str(tmp_path / "n.yaml"), unknown_keys_are_warnings=True))
    assert (len(settings.services), warnings) == (1, [f"{tmp_path}/n.yaml:4: foo: unknown key, ignored"])


# --- synapse's base -----------------------------------------------------------------------------------------------


def test_a_base_is_a_name_or_a_file(tmp_path: Path) -> None:
    services = Given(config="default", discovery=URL, services=("m:mysql:/m",))
    assert synapse(services).haproxy == synapse(Given(discovery=URL, services=("m:mysql:/m",))).haproxy
    assert refusals(synapse, Given(config="defalt", discovery=URL, services=("m:mysql:/m",))) == [
        "-c defalt: is neither a file nor a base configuration; base configurations: default"
    ]
    assert refusals(synapse, Given(config="/none.yaml")) == ["/none.yaml: there is no such file"]
    (tmp_path / "s.yaml").write_text("haproxy: {global: log x, defaults: [mode tcp], bind_address: 127.0.0.9}\n")
    top = synapse(Given(config=str(tmp_path / "s.yaml"), discovery=URL, services=("m:mysql:/m",))).haproxy
    assert top is not None
    assert (top.global_[0], top.bind_address, top.config_file_path) == ("log x", "127.0.0.9", "/run/d/haproxy.cfg")


def test_a_directory_of_services_that_a_base_names_is_not_looked_at(tmp_path: Path) -> None:
    base = tmp_path / "mine.yaml"
    base.write_text("haproxy: {global: [], defaults: []}\nservice_conf_dir: /synapse\n")
    given = Given(config="mine", discovery=URL, services=("m:mysql:/m",), templates=(tmp_path,))
    (warning,) = configure.synapse(given, Ambassador(Path("/r")), {}).warnings
    assert str(warning).startswith(f"{base}:2: service_conf_dir: is not looked at in a base configuration: ")


def test_a_file_without_haproxy_gets_none_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("services: {}\n")
    given = Given(config=str(tmp_path / "s.yaml"), discovery=URL, services=("m:tcp:/m",))
    assert refusals(synapse, given) == [
        f"{tmp_path / 's.yaml'}:1: there is no output: give a `haproxy` or a `file_output` section"
    ]
    (tmp_path / "s.yaml").write_text("file_output: {output_directory: /o}\n")
    settings = synapse(given)
    assert (settings.haproxy, list(settings.services)) == (None, ["m"])


def test_a_file_alone_is_taken_as_it_is(tmp_path: Path) -> None:
    text = "haproxy: {global: [log x], defaults: [], do_socket: false, config_file_path: /h}\n"
    (tmp_path / "s.yaml").write_text(text)
    top = synapse(Given(config=str(tmp_path / "s.yaml")), Ambassador(Path("/r"))).haproxy
    assert top is not None
    assert (top.global_, top.extra_sections, top.config_file_path) == (("log x",), {}, "/h")
    asked = synapse(Given(config=str(tmp_path / "s.yaml")), Ambassador(Path("/r"), "127.0.0.9", "127.0.0.1:7")).haproxy
    assert asked is not None
    assert (asked.bind_address, list(asked.extra_sections)) == ("127.0.0.9", ["listen dockstack-stats"])


def test_a_base_with_statistics_gets_no_second_page(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text(
        "haproxy: {global: [], defaults: [], extra_sections: {listen stats: [bind :8080, stats enable]}}\n"
    )
    given = Given(discovery=URL, services=("m:mysql:/m",), templates=(tmp_path,))
    top = synapse(given).haproxy
    assert top is not None
    assert list(top.extra_sections) == ["listen stats"]


def test_where_frontends_and_the_statistics_are() -> None:
    given = Given(discovery=URL, services=("m:mysql:/m",))
    top = synapse(given, Ambassador(Path("/r"), "127.0.0.1", "127.0.0.1:9")).haproxy
    assert top is not None
    assert (top.bind_address, top.extra_sections["listen dockstack-stats"][0]) == ("127.0.0.1", "bind 127.0.0.1:9")
    none = synapse(given, Ambassador(Path("/r"), None, "off")).haproxy
    assert none is not None
    assert (none.bind_address, none.extra_sections) == ("0.0.0.0", {})
    clash = Given(discovery=URL, services=("m:mysql:/m",), raws=("m:.haproxy.port=8080",))
    (told,) = refusals(synapse, clash)
    assert "m binds 0.0.0.0:8080, where the statistics page is: move it, or --stats off" in told
    (told,) = refusals(synapse, given, Ambassador(Path("/r"), None, "80"))
    assert told == "--stats 80: is neither HOST:PORT nor off"


def test_two_services_on_one_port_are_refused_by_name() -> None:
    (told,) = refusals(synapse, Given(discovery=URL, services=("a:http:/a", "b:http:/b")))
    assert told.startswith("-s b:http:/b: services.b.haproxy.port: b would bind 0.0.0.0:80, as a does")


def test_haproxy_gives_itself_up_only_to_a_user_that_there_is() -> None:
    top = synapse(Given(discovery=URL, services=("m:mysql:/m",))).haproxy
    assert top is not None
    users = [line for line in top.global_ if line.split()[0] in ("user", "group")]
    has = os.geteuid() == 0 and any(
        line.startswith("haproxy:") for line in Path("/etc/passwd").read_text().splitlines()
    )
    assert users == (["user haproxy", "group haproxy"] if has else [])


# --- check ------------------------------------------------------------------------------------------------------


def test_a_file_is_checked_as_what_its_keys_say(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(FILE)
    assert isinstance(configure.file(file, None, False, {}).settings, NerveSettings)
    file.write_text("haproxy: {global: [], defaults: [], do_socket: false, config_file_path: /h}\n")
    assert isinstance(configure.file(file, None, False, {}).settings, SynapseSettings)
    file.write_text("services: {a: {discovery: {method: base}}}\n")
    assert "there is no output" in refusals(configure.file, file, None, False, {})[0]


def test_what_a_service_is_warned_of_is_told_by_a_check_and_by_the_daemon_itself(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "instance_id: i\nservices:\n  a:\n    {host: h, port: 1, zk_hosts: z, zk_path: /a, load_test_concurrency: 2,\n"
        "    checks: [{type: http, uri: /, ssl: true, headers: {Authorization: x}}]}\n"
    )
    given = Given(config=str(file))
    (warning,) = configure.file(file, None, False, {}).warnings
    assert str(warning).startswith(f"{file}:5: services.a.checks[0]: sends an Authorization header to a server")
    assert configure.nerve(given, None, {}, check=True).warnings == (warning,)
    assert configure.nerve(given, None, {}).warnings == ()


def test_lines_that_are_new_or_left_out_are_told(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "haproxy: {global: [], defaults: [], do_socket: false, config_file_path: /h}\nservices:\n  a:\n"
        "    discovery: {method: base}\n"
        "    haproxy: {port: 1, listen: [mode http, retry-on all-retryable-errors, foo]}\n"
    )
    told = "\n".join(map(str, configure.file(file, None, False, {}).warnings))
    assert "retry-on all-retryable-errors" in told
    assert "`foo`" in told


def test_labels_need_a_registry_and_an_address(tmp_path: Path) -> None:
    labelled = Given(discovery=URL, docker=True)
    settings, warnings = nerve(labelled)
    assert (settings.instance_id, settings.services, warnings) == ("nerve", {}, [])
    terms = configure.label_terms(labelled, "i-1", HOST)
    assert (terms.instance_id, terms.base, terms.host, terms.advertise) == ("i-1", "/nerve", "10.0.0.1", "host")
    assert [str(host) for host in terms.locator.hosts] == ["h1:2181", "h2:2182"]
    assert set(terms.templates) == set(templates.types("nerve", ()))
    assert terms.broken == {}
    (told,) = refusals(nerve, Given(docker=True))
    assert told.startswith("-d: is missing: with --docker name the registry")
    (told,) = refusals(nerve, labelled, {})
    assert told.startswith("SERVICE_HOST: is not set: with --docker it is the address")
    (told,) = refusals(nerve, labelled, {**HOST, "DOCKER_HOST": "docker"})
    assert told.startswith("DOCKER_HOST: 'docker' is not the address of a Docker engine")
    assert nerve(Given(discovery=URL, docker=True, advertise="docker"), {})[0].services == {}
    (told,) = refusals(nerve, Given(discovery=URL, docker=True, advertise="inside"))
    assert told.startswith("--advertise: ")


def test_labels_have_the_users_templates(tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text("checks: [{type: tcp, rise: 1}]\n")
    (tmp_path / "broken.yaml").write_text("checks: [\n")
    terms = configure.label_terms(Given(discovery=URL, docker=True, templates=(tmp_path,)), "i-1", HOST)
    assert terms.templates["quick"] == {"checks": [{"type": "tcp", "rise": 1}]}
    assert "http" in terms.templates
    assert terms.broken["broken"].startswith(f"{tmp_path}/broken.yaml:")
