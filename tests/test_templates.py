"""Each TYPE gives settings that are valid, and a file that every HAProxy here takes without a word."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dockstack import templates
from dockstack.configure import Ambassador, Given, nerve, synapse
from dockstack.errors import ConfigurationError
from dockstack.model import Entry, Instance
from dockstack.settings.nerve import NerveService
from dockstack.synapse.haproxy.document import Layout, draft
from dockstack.synapse.haproxy.render import render
from tests.servers.haproxy import HaproxyBinary

ADDED = ("stats socket {run}/haproxy.sock mode 600 level admin expose-fd listeners", "hard-stop-after 24h")
TYPES = ("http", "mysql", "postgresql", "rabbitmq", "redis", "tcp")
CHECKED = ("docker", "exec", "grpc", "http", "mysql", "noop", "postgresql", "rabbitmq", "redis", "tcp")
URL = ("zk://127.0.0.1:2181/nerve",)


def test_these_are_offered() -> None:
    assert templates.types("nerve", ()) == CHECKED
    assert templates.types("synapse", ()) == TYPES
    assert templates.types("base", ()) == ("default",)


@pytest.mark.parametrize("kind", CHECKED)
def test_nerve_checks_each_type_every_two_seconds(kind: str) -> None:
    needed = {"exec": 'x:.checks[0].command="true"', "docker": 'x:.checks[0].container="x"'}
    command = (needed[kind],) if kind in needed else ()
    given = Given(discovery=URL, services=(f"x:{kind}:80:/x",), raws=command)
    loaded = nerve(given, None, {"SERVICE_HOST": "10.0.0.1"})
    assert loaded.warnings == ()
    service = loaded.settings.services["x"]
    assert isinstance(service, NerveService)
    assert (service.host, service.port, service.check_interval) == ("10.0.0.1", 80, 2)
    (check,) = service.checks
    assert (check.timeout, check.rise, check.fall) == (0.2, 3, 2)
    assert check.type == ("tcp" if kind == "rabbitmq" else kind)


def test_a_command_must_be_given() -> None:
    with pytest.raises(ConfigurationError, match=r"services\.x\.checks\[0\]\.command: is missing"):
        nerve(Given(discovery=URL, services=("x:exec:80:/x",)), None, {"SERVICE_HOST": "10.0.0.1"})


def file_of(kind: str, run_dir: Path) -> str:
    """haproxy.cfg of one service with two servers, as `-s` gives it."""
    given = Given(discovery=URL, services=(f"x:{kind}:/x",), raws=("x:.haproxy.port=28080",))
    loaded = synapse(given, Ambassador(run_dir, "127.0.0.1", "127.0.0.1:28081"), {})
    assert loaded.warnings == ()
    top = loaded.settings.haproxy
    assert top is not None
    whole = Layout(top, tuple(line.format(run=run_dir) for line in ADDED), "host").frame(loaded.settings.services)
    assert whole.warnings == ()
    entry = Entry((Instance("10.0.0.1", 80, name="a"), Instance("10.0.0.2", 80, name="b")))
    drafted = draft(whole, "x", entry, {}, {})
    assert drafted.problems == ()
    return render(type(whole.empty)(whole.empty.head, {"x": drafted.stanza}, whole.empty.tail)).text


@pytest.mark.parametrize("kind", TYPES)
def test_haproxy_takes_each_type_without_a_word(kind: str, haproxy: HaproxyBinary, tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(file_of(kind, tmp_path))
    done = subprocess.run([haproxy.path, "-c", "-f", file], capture_output=True, text=True, timeout=120, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "Configuration file is valid" not in line]
    assert (done.returncode, said) == (0, [])


def lines_of(kind: str, section: str, run_dir: Path) -> list[str]:
    text = file_of(kind, run_dir)
    block = text.partition(f"\n{section}\n")[2].split("\n\n")[0].split("\nbackend ")[0]
    return [line.strip() for line in block.splitlines() if line.strip()]


def test_what_the_types_stand_for(tmp_path: Path) -> None:
    http = lines_of("http", "backend x", tmp_path)
    assert http[0] == "mode http"
    assert "http-check send meth GET uri /health ver HTTP/1.1 hdr Host www" in http
    assert "http-check expect string OK" in http
    assert "retry-on conn-failure empty-response" in http
    assert "http-request disable-l7-retry unless METH_GET" in http
    assert "option httplog" in lines_of("http", "frontend x", tmp_path)
    assert "option mysql-check user haproxy_check" in lines_of("mysql", "backend x", tmp_path)
    rabbitmq = lines_of("rabbitmq", "backend x", tmp_path)
    assert "option tcp-check" in rabbitmq
    assert "timeout server 24h" in rabbitmq
    assert "timeout client 24h" in lines_of("rabbitmq", "frontend x", tmp_path)
    servers = [line for line in rabbitmq if line.startswith("server ")]
    assert len(servers) == 2
    assert all("check inter 2s rise 3 fall 2 on-marked-down shutdown-sessions" in line for line in servers)


def test_the_base_configuration(tmp_path: Path) -> None:
    given = Given(discovery=URL, services=("x:http:/x",))
    top = synapse(given, Ambassador(tmp_path), {}).settings.haproxy
    assert top is not None
    assert top.bind_address == "0.0.0.0"
    assert set(top.defaults) == {
        "log global",
        "option dontlognull",
        "option redispatch",
        "balance roundrobin",
        "retries 3",
        "timeout connect 5s",
        "timeout client 1m",
        "timeout server 1m",
    }
    assert top.extra_sections == {
        "listen dockstack-stats": (
            "bind 127.0.0.1:8080",
            "mode http",
            "stats enable",
            "stats uri /",
            "stats refresh 5s",
        )
    }
    assert top.config_file_path == f"{tmp_path}/haproxy.cfg"
    assert top.socket_file_path == (f"{tmp_path}/haproxy.sock",)


def write(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data))


def test_a_template_of_the_users_comes_first(tmp_path: Path) -> None:
    write(tmp_path / "nerve" / "http.yaml", {"check_interval": 7})
    write(tmp_path / "http.yaml", {"check_interval": 8})
    write(tmp_path / "web.json", {"check_interval": 9})
    given = Given(discovery=URL, services=("a:http:80:/a", "b:web:81:/b", "c:tcp:82:/c"), templates=(tmp_path,))
    services = nerve(given, None, {"SERVICE_HOST": "h"}).settings.services
    assert [service.check_interval for service in services.values()] == [7, 9, 2]
    assert "web" in templates.types("nerve", (tmp_path,))


def test_a_template_with_a_fault_names_its_file(tmp_path: Path) -> None:
    write(tmp_path / "web.yaml", {"checks": [{"type": "tcp", "fail": 2}]})
    given = Given(discovery=URL, services=("a:web:80:/a",), templates=(tmp_path,))
    with pytest.raises(ConfigurationError) as raised:
        nerve(given, None, {"SERVICE_HOST": "h"})
    assert "services.a.checks[0].fail: unknown key; did you mean fall?" in str(raised.value)
    assert f"{tmp_path}/web.yaml" in str(raised.value)


def test_a_directory_of_templates_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--templates: .*/none is no directory that can be read"):
        templates.directories((tmp_path / "none",))
    assert templates.directories((tmp_path,))[0] == tmp_path


def test_a_base_configuration_of_the_users(tmp_path: Path) -> None:
    write(tmp_path / "mine.yaml", {"haproxy": {"global": ["maxconn 77"], "defaults": ["mode tcp"]}})
    given = Given(
        config="mine", discovery=URL, services=("x:tcp:/x",), raws=("x:.haproxy.port=1",), templates=(tmp_path,)
    )
    top = synapse(given, Ambassador(tmp_path, stats="off"), {}).settings.haproxy
    assert top is not None
    assert (top.global_[0], top.defaults, top.extra_sections) == ("maxconn 77", ("mode tcp",), {})
