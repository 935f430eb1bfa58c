"""Instances as SmartStack's files have them."""

from __future__ import annotations

from typing import Any

import pytest

from dockstack.model import Instance
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.fields import described
from dockstack.synapse.select import default_instances

ZOOKEEPER = {"method": "zookeeper", "hosts": ["h"], "path": "/a"}
FULL = ["name", "host", "port", "id", "weight", "haproxy_server_options", "labels"]


def service(**more: Any) -> SynapseService:
    return SynapseService.model_validate({"discovery": ZOOKEEPER, **more})


def test_every_key_in_its_order_and_none_where_there_is_no_value() -> None:
    bare, rich = described(
        service(), [Instance("h", 80), Instance("h", "80", "n", 7, "3", "backup", '{"z":1,"a":true}')]
    )
    assert list(bare) == FULL
    assert list(bare.values()) == [None, "h", 80, None, None, None, None]
    assert list(rich.values()) == ["n", "h", "80", 7, "3", "backup", {"z": 1, "a": True}]


def test_default_servers_are_as_they_were_given() -> None:
    own = service(default_servers=[{"port": "80", "host": "h", "haproxy_server_id": 3}])
    (found,) = described(own, default_instances(own.default_servers))
    assert list(found.items()) == [("port", "80"), ("host", "h"), ("haproxy_server_id", 3)]


def test_a_default_server_that_is_kept_beside_others_has_the_port_that_all_have() -> None:
    own = service(default_servers=[{"port": 80, "host": "h"}], keep_default_servers=True, backend_port_override="99")
    (found,) = described(own, [Instance("h", "99")])
    assert list(found.items()) == [("port", "99"), ("host", "h")]


@pytest.mark.parametrize(
    ("discovery", "keys"),
    [
        ({"method": "dns", "servers": [{"host": "a", "port": 1}]}, ["host", "port", "name", "labels"]),
        ({"method": "zookeeper_dns", "hosts": ["h"], "path": "/a"}, ["host", "port", "name", "labels"]),
        ({"method": "zookeeper_dns_poll", "hosts": ["h"], "path": "/a"}, ["host", "port", "name", "labels"]),
        (
            {"method": "marathon", "marathon_api_url": "http://h", "application_name": "a"},
            ["name", "host", "port"],
        ),
    ],
)
def test_what_names_and_tasks_have(discovery: dict[str, Any], keys: list[str]) -> None:
    (found,) = described(service(discovery=discovery), [Instance("h", 80, "n", 7, 3, "backup", '{"z":1}')])
    assert list(found) == keys


def test_who_knows_less_has_fewer_keys() -> None:
    looks = {"method": "docker", "servers": [{}], "image_name": "i", "container_port": 80}
    (found,) = described(service(discovery=looks), [Instance("h", "80", "n")])
    assert list(found.items()) == [("name", "n"), ("host", "h"), ("port", "80")]


def test_watchers_of_one_kind_and_of_several() -> None:
    multi = {"watchers": {"b": {"method": "base"}}, "resolver": {"method": "union"}}
    (found,) = described(service(discovery_multi=multi), [Instance("h", 80)])
    assert list(found) == FULL
