"""The services that labels ask for, and what is said of labels that ask for none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.docker.containers import Container, Published
from dockstack.docker.labels import Labelled, labelled
from dockstack.errors import ConfigurationError, Problem


def container(
    labels: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    *,
    image: str = "registry:5000/team/web:1.2",
    ports: tuple[str, ...] = ("80/tcp",),
    exposed: tuple[tuple[int, str], ...] = (),
) -> Container:
    published = tuple(
        Published(int(port.partition("/")[0]), port.partition("/")[2], "0.0.0.0", 32768 + number)
        for number, port in enumerate(ports)
    )
    return Container(
        "a" * 64,
        "shop-web-1",
        image,
        "running",
        published=published,
        exposed=exposed,
        labels=labels or {},
        registrator=env or {},
    )


def faults(one: Container) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        labelled(one)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("labels", "services"),
    [
        ({}, ()),
        ({"com.docker.compose.service": "web"}, ()),
        ({"dockstack.web.port": "80"}, (Labelled("web", 80, "/web"),)),
        ({"dockstack.enable": "true", "dockstack.web.port": "80"}, (Labelled("web", 80, "/web"),)),
        ({"dockstack.enable": "false", "dockstack.web.port": "80", "dockstack.oh": "no"}, ()),
        ({"dockstack.web.port": "80", "dockstack.web.path": "/shop/web"}, (Labelled("web", 80, "/shop/web"),)),
        (
            {"dockstack.web.port": "80", "dockstack.admin.port": "8080", "dockstack.admin.check": "http"},
            (Labelled("admin", 8080, "/admin", "http"), Labelled("web", 80, "/web")),
        ),
        (
            {
                "dockstack.web.port": "80",
                "dockstack.web.check": "http",
                "dockstack.web.check.uri": "/ping",
                "dockstack.web.check.headers.X-From.Here": "nerve",
                "dockstack.web.weight": "7",
                "dockstack.web.labels.zone": "b",
                "dockstack.web.labels.team.name": "shop",
            },
            (
                Labelled(
                    "web",
                    80,
                    "/web",
                    "http",
                    ((("headers", "X-From.Here"), "nerve"), (("uri",), "/ping")),
                    7,
                    (("team.name", "shop"), ("zone", "b")),
                ),
            ),
        ),
        ({"dockstack.web.port": "80", "SERVICE_NAME": "other"}, (Labelled("web", 80, "/web"),)),
        ({"dockstack.web.port": "80", "SERVICE_IGNORE": "1"}, (Labelled("web", 80, "/web"),)),
    ],
)
def test_dockstacks_labels(labels: dict[str, str], services: tuple[Labelled, ...]) -> None:
    assert labelled(container(labels)) == services


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ({"dockstack.enable": "yes"}, "label dockstack.enable: 'yes' is neither true nor false"),
        ({"dockstack.enabel": "true"}, "label dockstack.enabel: unknown; did you mean dockstack.enable?"),
        ({"dockstack.web": "80"}, "label dockstack.web: unknown; write dockstack.NAME.port=PORT"),
        (
            {"dockstack.web.check": "http"},
            "label dockstack.web.port: is missing: write the container's own port, for example dockstack.web.port=80",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.wieght": "1"},
            "label dockstack.web.wieght: unknown; did you mean dockstack.web.weight?",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.haproxy": "1"},
            "label dockstack.web.haproxy: unknown; known: port, path, check, check.OPTION, weight, labels.KEY",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.port.tcp": "1"},
            "label dockstack.web.port.tcp: unknown; known: port, path, check, check.OPTION, weight, labels.KEY",
        ),
        (
            {"dockstack.my web.port": "80"},
            "label dockstack.my web.port: the NAME in dockstack.NAME.KEY is made of letters, digits, _ and -",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.labels": "b"},
            "label dockstack.web.labels: write dockstack.web.labels.KEY=VALUE",
        ),
        (
            {"dockstack.web.port": "80/udp"},
            "label dockstack.web.port: '80/udp' is not between 1 and 65535: write the container's own TCP port, for "
            "example 80",
        ),
        (
            {"dockstack.web.port": "65536"},
            "label dockstack.web.port: '65536' is not between 1 and 65535: write the container's own TCP port, for "
            "example 80",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.path": "web"},
            "label dockstack.web.path: 'web' does not begin with a slash: write /web",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.path": "//"},
            "label dockstack.web.path: '//' names no place: write /web",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.path": "/a/../../b"},
            "label dockstack.web.path: '/a/../../b' has a space in it, or a part that begins with a dot: write for "
            "example /web",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.path": f"/{'a' * 200}"},
            "label dockstack.web.path: has 201 bytes: write 200 at most",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.weight": "-1"},
            "label dockstack.web.weight: '-1' is no whole number of 0 or more: write for example 1",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.check": "../http"},
            "label dockstack.web.check: '../http' is no kind of check: write for example tcp or http",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.check.tls": "true", "dockstack.web.check.tls.verify": "false"},
            "label dockstack.web.check.tls.verify: is given beside dockstack.web.check.tls, which is the whole of it: "
            "remove one of them",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.check.headers.": "x"},
            "label dockstack.web.check.headers.: has an empty part: write dockstack.NAME.check.OPTION=VALUE",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.labels.zone": "a\nb"},
            "label dockstack.web.labels.zone: has a character in it that cannot be printed: write it without, in one "
            "line",
        ),
        (
            {"dockstack.web.port": "80", "dockstack.web.labels.zone": "\u00e9" * 500 + "b"},
            "label dockstack.web.labels.zone: has 1001 bytes: write 1000 at most",
        ),
        ({f"dockstack.web{number}.port": "80" for number in range(201)}, "labels: there are more than 200: give the "
         "container fewer"),
    ],
)  # fmt: skip
def test_a_fault_names_the_label_and_what_to_write(labels: dict[str, str], fault: str) -> None:
    assert fault in faults(container(labels))


@pytest.mark.parametrize(
    "option",
    [
        "host",
        "port",
        "type",
        "module",
        "command",
        "container",
        "ca_file",
        "tls.ca_file",
        "tls.cert_file",
        "tls.key_file",
    ],
)
def test_a_label_names_no_file_no_command_and_no_other_host(option: str) -> None:
    (fault,) = faults(container({"dockstack.web.port": "80", f"dockstack.web.check.{option}": "x"}))
    assert fault == (
        f"label dockstack.web.check.{option}: cannot be set by a label: write a template of your own and name it in "
        "dockstack.NAME.check"
    )


def test_all_faults_of_a_container_are_told_at_once() -> None:
    assert len(faults(container({"dockstack.a.port": "x", "dockstack.a.path": "b", "dockstack.c.wait": "1"}))) == 3


def test_a_label_that_cannot_be_printed_is_shown_escaped() -> None:
    (fault,) = faults(container({"dockstack.web.po\nrt": "80"}))
    assert fault.startswith("label 'dockstack.web.po\\nrt': ")


@pytest.mark.parametrize(
    ("env", "ports", "services"),
    [
        ({}, ("80/tcp",), ()),
        ({"SERVICE_HOST": "10.0.0.1", "SERVICE_REGION": "b"}, ("80/tcp",), ()),
        ({"SERVICE_NAME": "shop"}, ("80/tcp",), (Labelled("shop", 80, "/shop"),)),
        (
            {"SERVICE_NAME": "shop"},
            ("80/tcp", "443/tcp"),
            (Labelled("shop-443", 443, "/shop-443"), Labelled("shop-80", 80, "/shop-80")),
        ),
        ({"SERVICE_443_NAME": "tls", "SERVICE_81_NAME": "no"}, ("80/tcp", "443/tcp"), (Labelled("tls", 443, "/tls"),)),
        (
            {"SERVICE_NAME": "shop", "SERVICE_443_NAME": "tls"},
            ("80/tcp", "443/tcp"),
            (Labelled("shop-80", 80, "/shop-80"), Labelled("tls", 443, "/tls")),
        ),
        ({"SERVICE_NAME": "dns"}, ("53/tcp", "53/udp"), (Labelled("dns-53", 53, "/dns-53"),)),
        ({"SERVICE_NAME": "shop", "SERVICE_IGNORE": "false"}, ("80/tcp",), ()),
        ({"SERVICE_NAME": "shop", "SERVICE_IGNORE": ""}, ("80/tcp",), (Labelled("shop", 80, "/shop"),)),
        (
            {"SERVICE_NAME": "shop", "SERVICE_80_IGNORE": "1"},
            ("80/tcp", "443/tcp"),
            (Labelled("shop-443", 443, "/shop-443"),),
        ),
        (
            {"SERVICE_NAME": "shop", "SERVICE_TAGS": r"blue, a\,b,,blue"},
            ("80/tcp",),
            (Labelled("shop", 80, "/shop", labels=(("blue", "true"), ("a,b", "true"))),),
        ),
        (
            {"SERVICE_80_NAME": "shop", "SERVICE_TAGS": "blue", "SERVICE_80_TAGS": "green"},
            ("80/tcp",),
            (Labelled("shop", 80, "/shop", labels=(("green", "true"),)),),
        ),
    ],
)
@pytest.mark.parametrize("as_labels", [False, True])
def test_registrators_names(
    env: dict[str, str], ports: tuple[str, ...], services: tuple[Labelled, ...], as_labels: bool
) -> None:
    one = container(env, ports=ports) if as_labels else container({}, env, ports=ports)
    assert labelled(one) == services


def test_registrators_environment_wins_over_its_labels() -> None:
    assert labelled(container({"SERVICE_NAME": "a"}, {"SERVICE_NAME": "b"})) == (Labelled("b", 80, "/b"),)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.27", "nginx"),
        ("registry:5000/team/web:1.2", "web"),
        (f"team/web@sha256:{'0' * 64}", "web"),
    ],
)
def test_an_enabled_container_without_names_has_its_images(image: str, name: str) -> None:
    labels = {"dockstack.enable": "true"}
    assert labelled(container(labels, image=image)) == (Labelled(name, 80, f"/{name}"),)
    assert labelled(container(labels, {"SERVICE_NAME": "shop"}, image=image)) == (Labelled("shop", 80, "/shop"),)
    assert labelled(container(labels, {"SERVICE_IGNORE": "1"}, image=image)) == ()
    assert labelled(container(labels, image=image, ports=(), exposed=((6379, "tcp"),))) == (
        Labelled(name, 6379, f"/{name}"),
    )


@pytest.mark.parametrize(
    ("one", "fault"),
    [
        (
            container({"dockstack.enable": "true"}, ports=()),
            "label dockstack.enable: is true, and no TCP port is published: publish one, or name it with "
            "dockstack.NAME.port=PORT",
        ),
        (
            container({}, {"SERVICE_NAME": "../shop"}),
            "SERVICE_NAME: '../shop' is no name: write letters, digits, _ . and -, the first no . and no -",
        ),
        (
            container({}, {"SERVICE_80_NAME": "the shop"}),
            "SERVICE_80_NAME: 'the shop' is no name: write letters, digits, _ . and -, the first no . and no -",
        ),
        (
            container({}, {"SERVICE_NAME": "shop", "SERVICE_TAGS": "a\x00b"}),
            "SERVICE_TAGS: has a character in it that cannot be printed: write it without, in one line",
        ),
        (
            container({}, {"SERVICE_NAME": "x"}, ports=tuple(f"{port}/tcp" for port in range(1, 300))),
            "labels: there are more than 200: give the container fewer",
        ),
    ],
)
def test_a_fault_in_registrators_names(one: Container, fault: str) -> None:
    assert faults(one) == [fault]


_PARTS = st.sampled_from(
    [
        "dockstack",
        "enable",
        "web",
        "port",
        "path",
        "check",
        "labels",
        "weight",
        "uri",
        "SERVICE_",
        "80_",
        "NAME",
        "TAGS",
    ]
)
_KEYS = st.one_of(
    st.text(),
    st.lists(_PARTS, max_size=5).map(".".join),
    st.tuples(_PARTS, _PARTS, st.text(max_size=5)).map(lambda parts: ".".join(("dockstack", *parts))),
    st.lists(_PARTS, max_size=4).map(lambda parts: "SERVICE_" + "".join(parts)),
)
_VALUES = st.one_of(st.text(), st.sampled_from(["true", "80", "/web", "http", "-1", "/../x", "a,b"]))


@given(
    labels=st.dictionaries(_KEYS, _VALUES, max_size=8),
    env=st.dictionaries(_KEYS, _VALUES, max_size=4),
    image=st.text(max_size=30),
    ports=st.lists(st.sampled_from(["80/tcp", "443/tcp", "53/udp"]), unique=True).map(tuple),
)
def test_any_labels_are_services_or_faults_that_can_be_printed(
    labels: dict[str, str], env: dict[str, str], image: str, ports: tuple[str, ...]
) -> None:
    problems: tuple[Problem, ...] = ()
    services: tuple[Labelled, ...] = ()
    try:
        services = labelled(container(labels, env, image=image, ports=ports))
    except ConfigurationError as error:
        problems = error.problems
    assert all(str(problem).isprintable() and problem.what for problem in problems)
    assert len({(service.name, service.port) for service in services}) == len(services)
    for service in services:
        assert service.path.startswith("/")
        assert service.path.isprintable()
        assert not any(part.startswith(".") for part in service.path.split("/"))
        assert 1 <= service.port <= 65535
