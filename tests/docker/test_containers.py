"""What an engine's answers and events are worth, by tables; recorded from docker.io 20.10, API 1.41."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.docker.containers import (
    Container,
    Network,
    Occurrence,
    Published,
    container_of,
    ends,
    fingerprint,
    marked,
    occurrence,
    picture,
    refreshed,
    signal_number,
)

ID = "ab" * 32
ANSWER: dict[str, Any] = {
    "Id": ID,
    "Name": "/db",
    "State": {"Status": "running", "StartedAt": "2026-01-01T00:00:00.1Z", "Health": {"Status": "starting"}},
    "HostConfig": {"NetworkMode": "default"},
    "Config": {
        "Image": "mariadb:11",
        "Labels": {"dockstack.enable": "true"},
        "Env": ["PATH=/bin", "SERVICE_NAME=db", "SERVICE_TAGS=a=b"],
        "ExposedPorts": {"3306/tcp": {}, "53/udp": {}},
        "StopSignal": "SIGQUIT",
        "StopTimeout": 3,
    },
    "NetworkSettings": {
        "Ports": {
            "3306/tcp": [{"HostIp": "0.0.0.0", "HostPort": "49153"}, {"HostIp": "::", "HostPort": "49154"}],
            "53/udp": None,
        },
        "Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}},
    },
}


def box(state: str = "running", **more: Any) -> Container:
    return Container(ID, "db", "mariadb", state, **more)


def test_a_description() -> None:
    found = container_of(ANSWER)
    assert (found.id, found.name, found.image, found.state) == (ID, "db", "mariadb:11", "running")
    assert (found.health, found.stop_signal, found.stop_timeout) == ("starting", 3, 3.0)
    assert found.exposed == ((53, "udp"), (3306, "tcp"))
    assert found.published == (Published(3306, "tcp", "0.0.0.0", 49153), Published(3306, "tcp", "::", 49154))
    assert found.networks == (Network("bridge", "172.17.0.2", ""),)
    assert dict(found.labels) == {"dockstack.enable": "true"}
    assert dict(found.registrator) == {"SERVICE_NAME": "db", "SERVICE_TAGS": "a=b"}


def test_a_description_with_nothing_in_it() -> None:
    bare = {"Id": ID, "Name": "/db", "State": {"Status": "created"}, "Config": {"Labels": None, "StopTimeout": -1}}
    found = container_of(bare)
    assert (found.published, found.networks, found.health, found.stop_signal) == ((), (), None, 15)
    assert found.stop_timeout == 10.0


@pytest.mark.parametrize("wrong", [{}, {**ANSWER, "State": []}, {**ANSWER, "Name": 5}, {**ANSWER, "Config": "x"}])
def test_what_is_no_description(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        container_of(wrong)


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"Type": "container", "Action": "start", "Actor": {"ID": ID}}, Occurrence("start", ID)),
        (
            {"Type": "container", "Action": "kill", "Actor": {"ID": ID, "Attributes": {"signal": "15"}}},
            Occurrence("kill", ID, 15),
        ),
        (
            {"Type": "container", "Action": "health_status: healthy", "Actor": {"ID": ID}},
            Occurrence("health_status", ID),
        ),
        (
            {"Type": "network", "Action": "connect", "Actor": {"ID": "net", "Attributes": {"container": ID}}},
            Occurrence("connect", ID),
        ),
        ({"Type": "network", "Action": "create", "Actor": {"ID": "net", "Attributes": {}}}, None),
        ({"Type": "container", "Action": "exec_start: true", "Actor": {"ID": ID}}, None),
        ({"Type": "image", "Action": "pull", "Actor": {"ID": "x"}}, None),
        ({}, None),
    ],
)
def test_an_event(event: dict[str, Any], found: Occurrence | None) -> None:
    assert occurrence(event) == found


@pytest.mark.parametrize("number", [1, 2, 3, 9, 10, 12, 15])
def test_which_signals_end_a_container(number: int) -> None:
    happened = Occurrence("kill", ID, number)
    assert ends(box(), happened) == (number in {2, 3, 9, 15})
    assert ends(box(stop_signal=10), happened) == (number in {2, 3, 9, 10, 15})
    assert marked(box(), happened).stopping == (number in {2, 3, 9, 15})


@pytest.mark.parametrize(
    ("action", "plight"),
    [
        ("die", "is not running (exited)"),
        ("stop", "is not running (exited)"),
        ("pause", "is not running (paused)"),
        ("start", None),
        ("unpause", None),
        ("connect", None),
    ],
)
def test_what_counts_before_the_engine_is_asked(action: str, plight: str | None) -> None:
    assert marked(box(), Occurrence(action, ID)).plight == plight
    assert marked(box(stopping=True), Occurrence("die", ID)) == box("exited")


def test_a_signal_to_a_container_that_does_not_run_means_nothing() -> None:
    assert not marked(box("exited"), Occurrence("kill", ID, 15)).stopping


@pytest.mark.parametrize(
    ("before", "now", "still", "stopping"),
    [
        (box(started="1", stopping=True), box(started="1"), True, True),
        (box(started="1", stopping=True), box(started="1"), False, False),
        (box(started="1", stopping=True), box(started="2"), True, False),
        (box(started="1", stopping=True), box("exited", started="1"), True, False),
        (box(started="1"), box(started="1"), True, False),
        (None, box(), True, False),
    ],
)
def test_how_long_a_stop_is_believed(before: Container | None, now: Container, still: bool, stopping: bool) -> None:
    assert refreshed(before, now, still).stopping == stopping


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("SIGTERM", 15), ("term", 15), ("9", 9), (2, 2), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("SIGNONE", None)),
        *((None, None), ("", None), ("SIG", None), ("_DFL", None), ("RTMIN+x", None)),
    ],
)
def test_signals_by_name(text: str | int | None, number: int | None) -> None:
    assert signal_number(text) == number


@given(st.text(max_size=12))
def test_a_signal_of_any_text_is_a_number_or_none(text: str) -> None:
    assert isinstance(signal_number(text), int | None)


def test_a_container_is_found_by_name_and_by_id() -> None:
    now = picture([box(), Container("cd" * 32, "web", "image", "running")])
    assert [getattr(now.find(text), "name", None) for text in ("db", "/web", ID, ID[:12], "cd" * 8, ID[:11], "x")] == [
        *("db", "web", "db", "db", "web", None, None)
    ]


ENTRY: dict[str, Any] = {
    "Id": ID,
    "Names": ["/db"],
    "State": "running",
    "Status": "Up 3 seconds (healthy)",
    "Ports": [{"PrivatePort": 3306, "PublicPort": 49153}],
    "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
}


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({"Status": "Up 9 minutes (healthy)"}, False),
        ({"SizeRw": 5}, False),
        ({"Status": "Up 3 seconds (unhealthy)"}, True),
        ({"State": "paused"}, True),
        ({"Names": ["/store"]}, True),
        ({"Ports": []}, True),
        ({"NetworkSettings": {"Networks": {}}}, True),
    ],
)
def test_what_of_a_list_is_a_change(change: dict[str, Any], other: bool) -> None:
    assert (fingerprint({**ENTRY, **change}) != fingerprint(ENTRY)) == other
