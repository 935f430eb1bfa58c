"""What a service's settings announce, and where."""

from __future__ import annotations

from typing import Any

import pytest

from dockstack.model import Address, Instance
from dockstack.nerve.registration import locator_of, registration_of
from dockstack.registry import Locator, NodeKind, Tls
from dockstack.registry.codec import encode
from dockstack.settings.nerve import NerveService


def a_service(**keys: Any) -> NerveService:
    return NerveService.model_validate(
        {"host": "10.0.0.5", "port": 3306, "zk_hosts": ["zk1:2181"], "zk_path": "/nerve/db", **keys}
    )


def test_a_plain_service() -> None:
    registration = registration_of("mysql", "i-1", a_service())
    assert registration.key == "mysql"
    assert registration.path == "/nerve/db"
    assert registration.instance == Instance("10.0.0.5", 3306, "i-1")
    assert registration.kind is NodeKind.EPHEMERAL_SEQUENTIAL
    assert (registration.path_encoding, registration.nulls, registration.ttl) == (False, (), None)


@pytest.mark.parametrize(
    ("keys", "data"),
    [
        ({}, '{"host":"10.0.0.5","port":3306,"name":"i-1"}'),
        ({"port": "3306"}, '{"host":"10.0.0.5","port":"3306","name":"i-1"}'),
        ({"weight": "007"}, '{"host":"10.0.0.5","port":3306,"name":"i-1","weight":7}'),
        ({"labels": {}}, '{"host":"10.0.0.5","port":3306,"name":"i-1","labels":{}}'),
        (
            {"labels": {"z": None, "a": "é/☃", "n": 5, "b": True, "f": 1e16}},
            '{"host":"10.0.0.5","port":3306,"name":"i-1","labels":{"z":null,"a":"é/☃","n":5,"b":true,"f":1.0e+16}}',
        ),
        (
            {"labels": None, "haproxy_server_options": None},
            '{"host":"10.0.0.5","port":3306,"name":"i-1","haproxy_server_options":null,"labels":null}',
        ),
    ],
)
def test_the_bytes_that_nerve_writes(keys: dict[str, Any], data: str) -> None:
    assert encode(registration_of("mysql", "i-1", a_service(**keys))).decode() == data


@pytest.mark.parametrize(
    ("written", "encoded"), [(True, True), ("true", False), (1, False), (None, False), (False, False)]
)
def test_only_a_literal_true_encodes_the_path(written: object, encoded: bool) -> None:
    assert registration_of("x", "i", a_service(use_path_encoding=written)).path_encoding is encoded


@pytest.mark.parametrize("path", ["/nerve/db/", "//nerve//db", "nerve/db"])
def test_slashes_are_folded(path: str) -> None:
    assert registration_of("x", "i", a_service(zk_path=path)).path == "/nerve/db"


def test_a_persistent_node_with_a_ttl() -> None:
    registration = registration_of("x", "i", a_service(node_type="persistent_sequential", ttl_seconds=30))
    assert registration.kind is NodeKind.PERSISTENT_SEQUENTIAL
    assert registration.ttl == 30


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"zk_path": None}, "zk_path is missing"),
        ({"reporter_type": "file"}, "file_path is missing"),
        ({"weight": None}, "weight is null"),
        ({"host": "a b"}, "host"),
        ({"host": ""}, "there is no host"),
        ({"haproxy_server_options": "a\nb"}, "haproxy_server_options"),
        ({"labels": {"x": float("nan")}}, "labels: the number nan"),
    ],
)
def test_what_cannot_be_announced_is_named(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        registration_of("x", "i", a_service(**keys))


def test_an_instance_id_that_breaks_haproxys_line_is_refused() -> None:
    with pytest.raises(ValueError, match="name 'a b'"):
        registration_of("x", "a b", a_service())


def test_the_registry_of_a_service() -> None:
    service = a_service(
        zk_hosts=["zk2:2182, zk1", "[::1]:99/chroot/"],
        zk_auth="me:se:cret",
        zk_tls={"ca_file": "/ca.pem"},
        zk_session_timeout=4,
    )
    assert locator_of(service) == Locator(
        "zookeeper",
        (Address("::1", 99), Address("zk1", 2181), Address("zk2", 2182)),
        "/chroot",
        "me",
        "se:cret",
        Tls("/ca.pem"),
        4.0,
    )


def test_the_same_hosts_in_another_order_share_a_session() -> None:
    assert locator_of(a_service(zk_hosts=["b", "a"])) == locator_of(a_service(zk_hosts=["a:2181,b:2181"]))


def test_etcd_as_registry() -> None:
    service = a_service(reporter_type="etcd", etcd_host=["b", "a:1"], etcd_port=3, etcd_path="/nerve//db", zk_path=None)
    assert locator_of(service) == Locator("etcd", (Address("a", 1), Address("b", 3)))
    assert registration_of("x", "i", service).path == "/nerve/db"
    assert registration_of("x", "i", a_service(reporter_type="etcd", etcd_host="h")).path == "/"


def test_a_directory_as_registry() -> None:
    service = a_service(reporter_type="file", file_directory="/srv/registry/", file_path="/nerve/db")
    assert locator_of(service) == Locator("file", root="/srv/registry")
    assert registration_of("x", "i", service).path == "/nerve/db"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"zk_hosts": []}, "zk_hosts is missing"),
        ({"zk_hosts": ["zk1:0"]}, "zk_hosts: 'zk1:0': port"),
        ({"zk_auth": "secret"}, "zk_auth is not USER:PASSWORD"),
        ({"reporter_type": "file"}, "file_directory is missing"),
        ({"reporter_type": "etcd"}, "etcd_host is missing"),
        ({"reporter_type": "etcd", "etcd_host": "h/x"}, "into etcd_path"),
        ({"reporter_type": "etcd", "etcd_host": "h", "etcd_auth": "x"}, "etcd_auth is not USER:PASSWORD"),
    ],
)
def test_a_registry_that_cannot_be_found_is_named(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        locator_of(a_service(**keys))
