"""Labels as services: what `-s` with the same template would make, or what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack import configure
from dockstack.configure import Given
from dockstack.docker.containers import Container, Published
from dockstack.errors import ConfigurationError
from dockstack.nerve.labelled import Terms, services_of
from dockstack.nerve.service import Service, plan
from dockstack.registry.url import parse_url

URL = "zk://h1:2181,h2:2181/nerve"
LOCATOR, BASE = parse_url(URL)
TEMPLATES: dict[str, dict[str, Any]] = {
    "tcp": {"check_interval": 2, "checks": [{"type": "tcp", "timeout": 0.2, "rise": 3, "fall": 2}]},
    "http": {
        "check_interval": 2,
        "checks": [{"type": "http", "uri": "/health", "expect": "OK", "timeout": 0.2, "rise": 3, "fall": 2}],
    },
    "redis": {"checks": [{"type": "redis", "tls": True}]},
    "bare": {"labels": {"from": "template", "zone": "a"}},
    "wrong": {"checks": [{"type": "tcp", "rise": "often"}]},
}
TERMS = Terms("i-1", LOCATOR, BASE, "10.0.0.5", "host", TEMPLATES, {"broken": "/config/broken.yaml:1: is no map"})


def container(labels: dict[str, str], *ports: int) -> Container:
    published = tuple(Published(port, "tcp", "0.0.0.0", 32000 + port) for port in ports or (80,))
    return Container("a" * 64, "shop-web-1", "web", "running", published=published, labels=labels)


def services(labels: dict[str, str], *ports: int) -> tuple[Service, ...]:
    return services_of(container(labels, *ports), TERMS, lambda: None)


def faults(labels: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        services(labels)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_a_label_makes_what_the_command_line_makes(kind: str) -> None:
    (labelled,) = services({"dockstack.web.port": "80", "dockstack.web.check": kind})
    given = Given(discovery=(URL,), services=(f"web:{kind}:shop-web-1:80:/web",))
    (typed,) = plan(configure.nerve(given, "i-1", {"SERVICE_HOST": "10.0.0.5"}).settings)
    assert labelled.name == "web@shop-web-1:80"
    assert labelled.settings == typed.settings
    assert labelled.locator == typed.locator
    assert labelled.registration.instance == typed.registration.instance
    assert labelled.absence == typed.absence
    assert labelled.registration.path == typed.registration.path == "/nerve/web"


def test_what_the_labels_add() -> None:
    (service,) = services(
        {
            "dockstack.web.port": "80",
            "dockstack.web.path": "/shop//web/",
            "dockstack.web.check": "http",
            "dockstack.web.check.uri": "/ping",
            "dockstack.web.check.timeout": "0.5",
            "dockstack.web.check.rise": "1",
            "dockstack.web.check.ssl": "true",
            "dockstack.web.check.headers.X-Shop": "0123",
            "dockstack.web.weight": "7",
            "dockstack.web.labels.zone": "b",
        }
    )
    (check,) = service.settings.checks
    assert check.model_dump(exclude_unset=True) == {
        "type": "http",
        "uri": "/ping",
        "expect": "OK",
        "timeout": 0.5,
        "rise": 1,
        "fall": 2,
        "ssl": True,
        "headers": {"X-Shop": "0123"},
    }
    assert service.registration.path == "/nerve/shop/web"
    assert service.registration.instance.weight == 7
    assert service.registration.instance.labels == '{"zone":"b"}'


def test_options_stand_beside_those_of_the_template() -> None:
    labels = {"dockstack.db.port": "80", "dockstack.db.check": "redis", "dockstack.db.check.tls.verify": "false"}
    (service,) = services(labels)
    (check,) = service.settings.checks
    assert check.model_dump(exclude_unset=True) == {"type": "redis", "tls": {"verify": False}}
    (bare,) = services({"dockstack.a.port": "80", "dockstack.a.check": "bare", "dockstack.a.labels.zone": "b"})
    assert bare.registration.instance.labels == '{"from":"template","zone":"b"}'


def test_each_service_of_a_container_has_its_own_name() -> None:
    found = services({"SERVICE_80_NAME": "web", "SERVICE_443_NAME": "web"}, 80, 443)
    assert [service.name for service in found] == ["web@shop-web-1:80", "web@shop-web-1:443"]
    assert {service.registration.path for service in found} == {"/nerve/web"}


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (
            {"dockstack.web.port": "80", "dockstack.web.check": "htpp"},
            "label dockstack.web.check: unknown kind 'htpp'; did you mean http?",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.check": "x"},
            "label dockstack.web.check: unknown kind 'x'; known: bare, http, redis, tcp, wrong",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.check": "broken"},
            "label dockstack.web.check: /config/broken.yaml:1: is no map",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.check": "bare", "dockstack.web.check.rise": "1"},
            "label dockstack.web.check.rise: the template bare has no check that takes it",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.check.raise": "1"},
            "label dockstack.web.check.raise: unknown key; did you mean rise?",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.check.rise": "often"},
            'label dockstack.web.check.rise: must be a whole number, not "often"',
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.check": "wrong"},
            'label dockstack.web.check=wrong: checks[0].rise: must be a whole number, not "often"',
        ),
    ],
)
def test_a_fault_names_the_label(labels: dict[str, str], fault: str) -> None:
    assert faults(labels) == [fault]


_OPTION = st.sampled_from(["rise", "uri", "tls", "timeout", "headers", "verify", "name", "x", "strict_rise"])


@given(
    check=st.sampled_from([*TEMPLATES, "broken", "none"]),
    options=st.dictionaries(
        st.one_of(_OPTION, st.tuples(_OPTION, _OPTION).map(".".join)),
        st.one_of(st.text(), st.sampled_from(["1", "true", "0.5", "-1", "1e999", "/x", "[]"])),
        max_size=4,
    ),
    labels=st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_any_labels_are_services_or_faults(check: str, options: dict[str, str], labels: dict[str, str]) -> None:
    own = {f"dockstack.a.check.{key}": text for key, text in options.items()}
    more = {f"dockstack.a.labels.{key}": text for key, text in labels.items()}
    one = container({"dockstack.a.port": "80", "dockstack.a.check": check, **own, **more})
    problems: tuple[Any, ...] = ()
    found: tuple[Service, ...] = ()
    try:
        found = services_of(one, TERMS, lambda: None)
    except ConfigurationError as error:
        problems = error.problems
    assert bool(found) != bool(problems)
    assert all(str(problem).isprintable() for problem in problems)
