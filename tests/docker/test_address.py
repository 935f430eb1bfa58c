"""Where a container's port is reached: a table of what an engine says, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from dockstack.docker.address import AtHost, Inside, advertise_fault, own_id, where
from dockstack.docker.containers import Container, Network, Published
from dockstack.model import Address

ID = "0123456789abcdef" * 4


def container(
    *published: tuple[int, str, str, int], networks: tuple[Network, ...] | None = None, **more: Any
) -> Container:
    bridge = (Network("bridge", "172.17.0.2", ""),)
    return Container(
        ID,
        "db",
        "image",
        "running",
        published=tuple(Published(*one) for one in published),
        networks=bridge if networks is None else networks,
        **more,
    )


V4, V6 = (3306, "tcp", "0.0.0.0", 49153), (3306, "tcp", "::", 49154)


@pytest.mark.parametrize(
    ("host", "published", "port"),
    [
        ("10.0.0.1", (V4,), 49153),
        ("10.0.0.1", (V6, V4), 49153),
        ("db.example", (V6, V4), 49153),
        ("10.0.0.1", (V6,), 49154),
        ("fd00::1", (V4, V6), 49154),
        ("fd00::1", (V4,), 49153),
        ("10.0.0.1", (V4, (3306, "tcp", "10.0.0.1", 33060)), 33060),
        ("10.0.0.1", ((3306, "tcp", "10.0.0.2", 33060),), 33060),
        ("10.0.0.1", ((80, "tcp", "0.0.0.0", 80), (3306, "udp", "0.0.0.0", 1), V4), 49153),
        ("10.0.0.1", ((3306, "tcp", "127.0.0.1", 5), V4), 49153),
        ("127.0.0.1", ((3306, "tcp", "127.0.0.1", 5), V4), 5),
        ("localhost", ((3306, "tcp", "127.0.0.1", 5),), 5),
        ("10.0.0.1", ((3306, "tcp", "0.0.0.0", 9), (3306, "tcp", "0.0.0.0", 7)), 7),
    ],
)
def test_a_published_port(host: str, published: tuple[Any, ...], port: int) -> None:
    assert AtHost(host)(container(*published), 3306) == Address(host, port)


def test_a_container_on_its_hosts_network_is_reached_at_its_own_port() -> None:
    assert AtHost("10.0.0.1")(container(network_mode="host"), 3306) == Address("10.0.0.1", 3306)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (container(), "does not publish port 3306; published: none; start it with -p 3306"),
        (
            container((80, "tcp", "0.0.0.0", 49153), (3306, "udp", "::", 49154)),
            "does not publish port 3306; published: 3306/udp at [::]:49154, 80/tcp at 0.0.0.0:49153; start it with "
            "-p 3306",
        ),
        (
            container((3306, "tcp", "127.0.0.1", 5)),
            "publishes port 3306 on 127.0.0.1 alone, which only its own host reaches: publish it on another address, "
            "or on all with -p 3306",
        ),
        (container(networks=()), "is on no network"),
    ],
)
def test_a_port_that_nobody_reaches(found: Container, reason: str) -> None:
    with pytest.raises(ValueError, match=r".*") as raised:
        AtHost("10.0.0.1")(found, 3306)
    assert str(raised.value) == reason


BRIDGE = Network("bridge", "172.17.0.2", "")
FRONT, BACK = Network("front", "10.1.0.2", "fd01::2"), Network("back", "10.2.0.2", "")
SIX, NOWHERE = Network("six", "", "fd06::2"), Network("nowhere", "", "")


@pytest.mark.parametrize(
    ("rule", "networks", "host"),
    [
        (Inside(), (BRIDGE,), "172.17.0.2"),
        (Inside(), (BRIDGE, FRONT, BACK), "10.2.0.2"),
        (Inside(), (FRONT, SIX), "10.1.0.2"),
        (Inside(), (SIX,), "fd06::2"),
        (Inside("front"), (BACK, FRONT), "10.1.0.2"),
        (Inside(shared=frozenset({"front", "other"})), (BACK, BRIDGE, FRONT), "10.1.0.2"),
        (Inside("back", frozenset({"front"})), (BACK, FRONT), "10.2.0.2"),
    ],
)
def test_an_address_of_its_own(rule: Inside, networks: tuple[Network, ...], host: str) -> None:
    assert rule(container(V4, networks=networks), 3306) == Address(host, 3306)


@pytest.mark.parametrize(
    ("rule", "networks", "reason"),
    [
        (Inside(), (NOWHERE,), "has no address on any network; it has one on: none"),
        (Inside("front"), (BACK, BRIDGE), "has no address on the network front; it has one on: back, bridge"),
        (
            Inside(shared=frozenset({"front", "x"})),
            (BACK,),
            "has no address on a network that it shares with nerve (front, x); it has one on: back",
        ),
    ],
)
def test_no_address_of_its_own(rule: Inside, networks: tuple[Network, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=r".*") as raised:
        rule(container(V4, networks=networks), 3306)
    assert str(raised.value) == reason


def test_what_is_advertised() -> None:
    nerve = container(networks=(FRONT, NOWHERE))
    assert where("host", "h", None) == AtHost("h")
    assert where("docker", None, None) == Inside()
    assert where("docker", "h", nerve) == Inside(None, frozenset({"front"}))
    assert where("docker", "h", container(networks=())) == Inside()
    assert where("docker:back", None, None) == Inside("back")


@pytest.mark.parametrize(
    ("text", "right"), [("host", True), ("docker", True), ("docker:a:b", True), ("docker:", False)]
)
def test_how_it_is_written(text: str, right: bool) -> None:
    assert (advertise_fault(text) is None) == right
    assert advertise_fault("host:x") == "'host:x' is none of host, docker and docker:NETWORK"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"612 577 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda1 rw", ID),
        ("25 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw", None),
        (f"9 1 254:1 / /srv/containers/{ID[:12]}/x rw - ext4 /dev/vda1 rw", None),
    ],
)
def test_ones_own_container(line: str, found: str | None) -> None:
    assert own_id(f"1 1 0:1 / /proc rw - proc proc rw\n{line}\n") == found
