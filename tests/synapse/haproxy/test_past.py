"""SmartStack's state file as data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dockstack.model import Entry, Instance
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.haproxy.past import CONFIG, Past, encode, merged

OWN = SynapseService.model_validate(
    {
        "discovery": {"method": "zookeeper", "hosts": ["h"], "path": "/a"},
        "haproxy": {"port": 80, "listen": ["mode http"]},
    }
)
A, B, C = (Instance("h", 80, name, number) for number, name in enumerate("abc", 1))


def ruby(**servers: Any) -> str:
    """A file with one service as SmartStack writes it."""
    body: dict[str, Any] = {}
    for name, more in servers.items():
        plain = {"name": name, "host": "h", "port": 80, "id": 1, "weight": None, "labels": None}
        body[f"{name}_h:80"] = {"timestamp": 1000, "haproxy_server_id": 7, **plain, **more}
    return json.dumps({"svc": {**body, CONFIG: {"port": 80}}})


def past(text: str = "", ttl: float = 100.0) -> Past:
    found = Past(ttl)
    assert found.load(text) == ()
    return found


def names(instances: tuple[Instance, ...]) -> list[str | None]:
    return [one.name for one in instances]


def test_a_file_of_smartstacks_is_read() -> None:
    found = past(ruby(a={}, b={"timestamp": 990, "haproxy_server_id": 8, "labels": {"x": 1}, "port": "80"}))
    assert found.ids("svc") == {"a_h:80": 7, "b_h:80": 8}
    assert found.ids("other") == {}
    assert found.departed("svc", 1000) == (Instance("h", 80, "a", 1), Instance("h", "80", "b", 1, labels='{"x":1}'))
    assert found.newest(1000) == {"svc": Entry((Instance("h", 80, "a", 1),))}
    older = json.loads(ruby(a={"timestamp": 999}))["svc"]
    assert past(json.dumps({"old": older, **json.loads(ruby(a={}))})).newest(1000).keys() == {"svc"}


def test_what_is_too_old_is_neither_served_nor_listed_and_an_id_is_kept() -> None:
    found = past(ruby(a={}, b={"haproxy_server_id": 8}, c={"timestamp": 5}))
    assert found.newest(1101) == {}
    assert found.departed("svc", 1101) == ()
    assert found.ids("svc") == {"a_h:80": 7, "b_h:80": 8}
    found.see("svc", OWN, Entry((A,)), {}, 1101)
    assert found.expire(1101) == {"svc"}
    assert found.ids("svc") == {"a_h:80": 7}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no map of services"),
        ('{"svc": 5}', "service svc: it is no map of servers"),
        ('{"svc": {"a_h:80": 5}}', "service svc, server a_h:80: it is no map"),
        (ruby(a={"host": ""}), "there is no host"),
        (ruby(a={"host": "x y"}), "spaces"),
        (ruby(a={"port": 0}), "not between 1 and 65535"),
        (ruby(a={"port": 81}), "not that of its host and port"),
        (ruby(a={"timestamp": "now"}), "is no number"),
        (ruby(a={"timestamp": True}), "is no number"),
        (ruby(a={"timestamp": 10**400}), "is no number"),
        (ruby(a={"timestamp": float("nan")}), "is no number"),
    ],
)
def test_what_cannot_be_read_is_told_and_left(text: str, problem: str) -> None:
    found = Past(100)
    (told,) = found.load(text)
    assert problem in told
    assert found.departed("svc", 1000) == ()


@pytest.mark.parametrize("text", ["", "null", "{}"])
def test_an_empty_file(text: str) -> None:
    assert past(text).newest(1000) == {}


def test_a_bad_id_is_none() -> None:
    for bad in (0, -1, "7", True, None, 2**40):
        assert past(ruby(a={"haproxy_server_id": bad})).ids("svc") == {}


def test_a_server_that_leaves_is_known_for_some_time() -> None:
    found = past(ttl=100)
    found.see("svc", OWN, Entry((A, B)), {}, 0)
    assert found.departed("svc", 500) == ()
    assert found.expire(500) == frozenset()
    found.see("svc", OWN, Entry((A,)), {}, 500)
    assert found.departed("svc", 600) == (B,)
    assert found.departed("svc", 601) == ()
    assert found.expire(600) == frozenset()
    assert found.expire(601) == {"svc"}
    assert "b_h:80" not in json.loads(encode(found.content(601)))["svc"]


def test_the_newest_is_what_is_written() -> None:
    found = past(ruby(a={}))
    found.see("svc", OWN, Entry((replace(A, weight=7),)), {}, 1010)
    assert json.loads(encode(found.content(1010)))["svc"]["a_h:80"]["weight"] == 7
    found.see("svc", OWN, Entry(()), {}, 1020)
    assert [one.weight for one in found.departed("svc", 1020)] == [7]


def test_a_service_that_never_had_servers_is_one_all_the_same() -> None:
    found = past()
    found.see("svc", OWN, Entry(()), {}, 10)
    assert found.expire(10) == frozenset()
    assert json.loads(encode(found.content(10)))["svc"].keys() == {CONFIG}


def test_the_servers_of_a_service_that_is_gone_have_left() -> None:
    found = past(ruby(a={}))
    before = found.content(1000)
    found.forget("other", 1005)
    found.forget("svc", 1005)
    assert found.content(1005) == before
    found.see("svc", OWN, Entry((A, B)), {}, 1010)
    found.forget("svc", 1020)
    assert names(found.departed("svc", 1120)) == ["a", "b"]
    written = json.loads(encode(found.content(1030)))["svc"]
    assert {one["timestamp"] for key, one in written.items() if key != CONFIG} == {1020}
    assert written[CONFIG]["listen"] == ["mode http"]
    assert found.expire(1121) == {"svc"}
    assert found.content(1121) == {}


def test_a_server_that_comes_back_is_one_that_is_there() -> None:
    found = past(ruby(a={}))
    found.see("svc", OWN, Entry((A, B)), {}, 1010)
    assert found.departed("svc", 1010) == ()
    found.see("svc", OWN, Entry(()), {}, 1020)
    assert names(found.departed("svc", 1020)) == ["a", "b"]


def test_the_file_is_smartstacks() -> None:
    found = past(ruby(a={}))
    ids = {"a_h:80": 7, "b_h:80": 2}
    found.see("svc", OWN, Entry((B,)), ids, 1010.9)
    assert encode(found.content(1020.7)).decode() == json.dumps(
        {
            "svc": {
                "a_h:80": {
                    "timestamp": 1000,
                    "haproxy_server_id": 7,
                    "name": "a",
                    "host": "h",
                    "port": 80,
                    "id": 1,
                    "weight": None,
                    "labels": None,
                },
                "b_h:80": {
                    "timestamp": 1020,
                    "haproxy_server_id": 2,
                    "name": "b",
                    "host": "h",
                    "port": 80,
                    "id": 2,
                    "weight": None,
                    "haproxy_server_options": None,
                    "labels": None,
                },
                CONFIG: {
                    "server_options": "",
                    "server_port_override": None,
                    "backend": [],
                    "frontend": [],
                    "listen": ["mode http"],
                    "port": 80,
                },
            }
        },
        indent=2,
    )


def test_what_is_written_is_read() -> None:
    found = past()
    found.see("svc", OWN, Entry((A, B, C)), {"a_h:80": 1, "b_h:80": 2, "c_h:80": 3}, 10)
    found.see("svc", OWN, Entry((A, C)), {"a_h:80": 1, "b_h:80": 2, "c_h:80": 3}, 20)
    again = past(encode(found.content(30)).decode())
    assert again.newest(30) == {"svc": Entry((A, C))}
    assert again.ids("svc") == {"a_h:80": 1, "b_h:80": 2, "c_h:80": 3}
    assert set(again.departed("svc", 30)) == {A, B, C}


def test_what_is_not_latin_is_written_as_it_is() -> None:
    assert '"é"' in encode(past(ruby(a={"note": "é"})).content(1000)).decode()


def test_half_a_surrogate_is_written_as_it_was_read() -> None:
    found = past(ruby(a={"note": "\ud800"}))
    text = encode(found.content(1000)).decode()
    assert json.loads(text)["svc"]["a_h:80"]["note"] == "\ud800"


def test_a_service_that_is_not_ours_stays_until_its_servers_are_old() -> None:
    found = past(ruby(a={}))
    assert found.expire(1050) == frozenset()
    assert json.loads(encode(found.content(1050)))["svc"][CONFIG] == {"port": 80}
    assert found.expire(1101) == {"svc"}
    assert json.loads(encode(found.content(1101))) == {}


def test_ids_that_are_taken_over() -> None:
    assert merged({"a": 1, "b": 2}, {"c": 2, "a": 3}) == {"a": 3, "c": 2}
