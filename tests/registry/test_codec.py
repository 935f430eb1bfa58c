"""Nerve's bytes and names both ways, serversets, and the bad data that must be skipped with a reason."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.model import Instance
from dockstack.registry import NodeKind, Registration
from dockstack.registry.codec import (
    Decoding,
    NerveDecoder,
    ServersetDecoder,
    compact,
    encode,
    id_of,
    node_prefix,
    sequence_of,
)
from dockstack.registry.url import fold

RECORDED = Path(__file__).parents[1] / "golden" / "nerve"
NERVE = NerveDecoder()
HOSTS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,20}(\.[A-Za-z0-9_-]{1,9}){0,3}\.?", fullmatch=True),
    st.ip_addresses().map(str),
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z"), exclude_characters="'\"\\#/"))
LINES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
INSTANCES = st.builds(
    Instance,
    host=HOSTS,
    port=st.integers(1, 65535) | st.integers(1, 65535).map(str),
    name=WORDS.filter(lambda name: len(name.split()) <= 1),
    weight=st.none() | st.integers(0, 256),
    haproxy_server_options=st.none() | LINES,
    labels=st.none() | st.dictionaries(st.text(), JSON, max_size=4).map(compact),
)


def registration(instance: Instance, **fields: Any) -> Registration:
    return Registration("k", "/p", instance, **fields)


def nerve(**fields: object) -> bytes:
    return json.dumps({"host": "10.0.0.1", "port": 80, **fields}).encode()


@pytest.mark.parametrize(
    ("instance", "nulls", "data"),
    [
        (Instance("127.0.0.1", 29001, "i-0abc.example"), (),
         b'{"host":"127.0.0.1","port":29001,"name":"i-0abc.example"}'),
        (Instance("127.0.0.1", "29001", "i"), (), b'{"host":"127.0.0.1","port":"29001","name":"i"}'),
        (Instance("h", 1, "i", weight=3, haproxy_server_options="check", labels='{"k":"v"}'), (),
         b'{"host":"h","port":1,"name":"i","weight":3,"haproxy_server_options":"check","labels":{"k":"v"}}'),
        (Instance("h", 1, "i"), ("haproxy_server_options", "labels"),
         b'{"host":"h","port":1,"name":"i","haproxy_server_options":null,"labels":null}'),
        (Instance("h", 1, "i", haproxy_server_options="maxconn 5"), ("haproxy_server_options",),
         b'{"host":"h","port":1,"name":"i","haproxy_server_options":"maxconn 5"}'),
        (Instance("h", 1, "é", labels=compact({"n": 5, "b": True, "u": "é☃", "z": None, "s": "a/b<c>&"})), (),
         '{"host":"h","port":1,"name":"é","labels":{"n":5,"b":true,"u":"é☃","z":null,"s":"a/b<c>&"}}'.encode()),
    ],
)  # fmt: skip
def test_the_data_is_nerves_byte_for_byte(instance: Instance, nulls: tuple[str, ...], data: bytes) -> None:
    assert encode(registration(instance, nulls=nulls)) == data


def test_every_recorded_node_is_written_again_byte_for_byte() -> None:
    settings = json.loads((RECORDED / "nerve.json").read_text())
    nodes = {node["path"]: node["data_utf8"].encode() for node in json.loads((RECORDED / "znodes.json").read_text())}
    # `down` is never registered; with a slash at the end of its path Ruby's nerve never gets that far
    written = [_registration_of(settings, name) for name in settings["services"] if name not in ("down", "slash")]
    for reg in written:
        prefix = f"{reg.path}/{node_prefix(reg)}"
        assert encode(reg) in [data for path, data in nodes.items() if path.startswith(prefix)], reg.key
    below = {path for path in nodes if path.rpartition("/")[0] in {reg.path for reg in written}}
    assert len(below) == len(written)
    for path in below:
        name = path.rpartition("/")[2]
        read = NERVE.from_name(name) or NERVE.from_data(name, nodes[path])
        assert read == NERVE.from_data(name, nodes[path])
        assert read.name == settings["instance_id"]


def _registration_of(settings: dict[str, Any], name: str) -> Registration:
    service = settings["services"][name]
    labels, weight = service.get("labels"), service.get("weight")
    instance = Instance(
        service["host"],
        service["port"],
        settings["instance_id"],
        weight=None if weight is None else int(weight),
        haproxy_server_options=service.get("haproxy_server_options"),
        labels=None if labels is None else compact(labels),
    )
    return Registration(
        name,
        fold(service["zk_path"]),
        instance,
        path_encoding=service.get("use_path_encoding") is True,
        nulls=tuple(key for key in ("haproxy_server_options", "labels") if service.get(key, 0) is None),
    )


@pytest.mark.parametrize(
    ("instance", "nulls", "words"),
    [
        (Instance("h", 1), (), "without a name"),
        (Instance("h", 1, "a b"), (), "name"),
        (Instance("", 1, "a"), (), "no host"),
        (Instance("a b", 1, "a"), (), "host"),
        (Instance("h", 0, "a"), (), "between 1 and 65535"),
        (Instance("h", 1, "a", weight=math.nan), (), "cannot be written"),
        (Instance("h", 1, "a", haproxy_server_options="x\ny"), (), "line break"),
        (Instance("h", 1, "a", labels="[]"), (), "no map"),
        (Instance("h", 1, "a", labels='{"a":NaN}'), (), "NaN"),
        (Instance("h", 1, "a"), ("host",), "cannot be null"),
    ],
)
def test_what_must_not_be_registered_is_refused(instance: Instance, nulls: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode(registration(instance, nulls=nulls))


@given(INSTANCES, st.integers(0, 2**31 - 1))
def test_an_instance_comes_back_from_its_data(instance: Instance, number: int) -> None:
    reg = registration(instance)
    name = f"{node_prefix(reg)}{number:010d}"
    read = NERVE.from_data(name, encode(reg))
    assert read == Instance(
        instance.host,
        instance.port,
        instance.name,
        number,
        instance.weight,
        instance.haproxy_server_options,
        instance.labels,
    )
    assert NERVE.from_name(name) is None or name.startswith("base64_")


@given(INSTANCES, st.integers(0, 2**31 - 1) | st.none())
def test_an_instance_comes_back_from_an_encoded_name(instance: Instance, number: int | None) -> None:
    reg = registration(instance, path_encoding=True)
    name = node_prefix(reg) + ("" if number is None else f"{number:010d}")
    assert NERVE.from_name(name) == NERVE.from_data(f"x_{number:010d}" if number is not None else "x", encode(reg))


@given(JSON)
def test_compact_json_is_json(value: object) -> None:
    text = compact(value)
    assert json.loads(text) == value
    assert compact(json.loads(text)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"), (1e15, "1000000000000000.0"), (1e16, "1.0e+16"), (1.5e300, "1.5e+300"), (1e-5, "1.0e-05"),
        (0.0001, "0.0001"), (-0.0, "-0.0"), ({1: 2, False: None}, '{"1":2,"false":null}'),
        (("a", [1, {}]), '["a",[1,{}]]'),
        ("\x7f\u2028/\x01\n", '"\x7f\u2028/\\u0001\\n"'),
    ],
)  # fmt: skip
def test_compact_json_is_as_ruby_writes_it(value: object, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": object()}, {b"k": 1}, "\ud800", {"\udfff": 1}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        compact(value)


def test_endless_nesting_is_refused() -> None:
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(ValueError, match="too deeply"):
        compact(ring)
    with pytest.raises(ValueError, match="too deeply"):
        NERVE.from_data("n", b'{"a":' * 200_000)


def test_the_recorded_encoded_name_is_made() -> None:
    instance = Instance(
        "127.0.0.1", 29001, "i-0abc.example", weight=3, haproxy_server_options="check", labels=compact({"k": "é"})
    )
    assert node_prefix(registration(instance, path_encoding=True)) == (
        "base64_164_eyJob3N0IjoiMTI3LjAuMC4xIiwicG9ydCI6MjkwMDEsIm5hbWUiOiJpLTBhYmMuZXhhbXBsZSIsIndlaWdodCI6MywiaGFwcm94e"
        "V9zZXJ2ZXJfb3B0aW9ucyI6ImNoZWNrIiwibGFiZWxzIjp7ImsiOiLDqSJ9fQ==_"
    )


@pytest.mark.parametrize("kind", NodeKind)
def test_a_plain_name_ends_in_an_underscore_for_every_kind(kind: NodeKind) -> None:
    assert node_prefix(registration(Instance("h", 1, "i-0abc.example"), kind=kind)) == "i-0abc.example_"


def test_an_encoded_name_may_have_65536_characters_and_not_one_more() -> None:
    def prefix(size: int) -> str:
        return node_prefix(registration(Instance("h", 1, "n", labels=compact({"k": "x" * size})), path_encoding=True))

    sizes = range(49_000, 49_200)
    lengths = [len(prefix(size)) for size in sizes]
    encoded = [n for n in lengths if n > 2]
    assert max(encoded) == 65_536 - 2  # four characters of text for three of data: no name falls on the limit itself
    assert lengths[-1] == 2
    assert prefix(49_199) == "n_"


def test_a_name_with_a_slash_makes_no_node() -> None:
    with pytest.raises(ValueError, match="slash"):
        node_prefix(registration(Instance("h", 1, "a/b")))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("i_0000000007", 7), ("a_b_0000000010", 10), ("i_", None), ("i", None), ("i_12x", None), ("i_-5", None),
        ("i_٣", None), ("_1", 1), ("i_1\n", None), ("i_" + "9" * 5000, None),
    ],
)  # fmt: skip
def test_the_sequence_is_the_digits_behind_the_last_underscore(name: str, number: int | None) -> None:
    assert sequence_of(name) == number
    assert id_of(name) == number


def test_a_name_that_is_a_number_is_the_instances_id_and_no_sequence() -> None:
    assert (id_of("12"), sequence_of("12")) == (12, None)
    assert NERVE.from_data("0012", b'{"host": "h", "port": 1}') == Instance("h", 1, id=12)
    assert ServersetDecoder().from_data("3", json.dumps(MEMBER).encode()).id == 3
    assert [id_of(name) for name in ("٣", "12\n", "9" * 5000, "-1", "")] == [None] * 5


@pytest.mark.parametrize(
    ("name", "instance"),
    [
        ("base64_56_eyJob3N0IjoiMTAuMC4wLjEiLCJwb3J0IjozMDAxLCJuYW1lIjoiYSJ9_0000000001",
         Instance("10.0.0.1", 3001, "a", 1)),
        ("base64_56_eyJob3N0IjoiMTAuMC4wLjEiLCJwb3J0IjozMDAxLCJuYW1lIjoiYSJ9", Instance("10.0.0.1", 3001, "a")),
        ("base64_56_eyJob3N0IjoiMTAuMC4wLjEiLCJwb3J0IjozMDAxLCJuYW1lIjoiYSJ9_", Instance("10.0.0.1", 3001, "a")),
        ("base64_104_eyJob3N0IjoiMTAuMC4wLjIiLCJwb3J0IjozMDAyLCJuYW1lIjoiYiIsIndlaWdodCI6MywibGFiZWxzIjp7InoiOiJcdTAwZTkif"
         "X0=_0000000002", Instance("10.0.0.2", 3002, "b", 2, weight=3, labels='{"z":"é"}')),
        ("base64_zz", None),
        ("base64_", None),
        ("base64_56_eyJob3N0", None),
        ("base64_4_eyJob3N0_0000000001", None),
        ("base64_56_eyJob3N0IjoiMTAuMC4wLjEiLCJwb3J0IjozMDAxLCJuYW1lIjoiYSJ9x0000000001", None),
        ("base64_8_eyJob3N0_0000000001", None),
        ("base64_4_bnVs_0000000001", None),
        ("base64_1_e_0000000001", None),
        ("base64_4_+/+/_1", None),
        ("plain_0000000004", None),
        ("base65_4_eyJo_1", None),
    ],
)  # fmt: skip
def test_names_that_are_the_instance_and_names_that_need_the_data(name: str, instance: Instance | None) -> None:
    assert NERVE.from_name(name) == instance


def test_an_encoded_name_may_lack_its_padding_and_hold_underscores() -> None:
    data = '{"host":"h","port":1,"name":"a?>~~ÿÿ","x":"ÿÿÿ???>>>"}'.encode()
    text = base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert "_" in text
    assert NERVE.from_name(f"base64_{len(text)}_{text}_0000000003") == Instance("h", 1, "a?>~~ÿÿ", 3)


@pytest.mark.parametrize(
    ("data", "instance"),
    [
        (b'{"name":"n","port":1,"host":"h","extra":[1]}', Instance("h", 1, "n", 5)),
        (b'{"host":"h","port":1}', Instance("h", 1, None, 5)),
        (b' {"host":"h","port":"0080","name":null,"weight":null,"labels":null,"haproxy_server_options":null}\n',
         Instance("h", "0080", None, 5)),
        (b'{"host":"h","port":1,"name":5}', Instance("h", 1, "5", 5)),
        (b'{"host":"h","port":1,"name":1.5}', Instance("h", 1, "1.5", 5)),
        (b'{"host":"h","port":1,"weight":"ten"}', Instance("h", 1, None, 5, weight="ten")),
        (b'{"host":"h","port":1,"weight":1.5}', Instance("h", 1, None, 5, weight=1.5)),
        (b'{"host":"[::1]","port":1}', Instance("::1", 1, None, 5)),
        (nerve(haproxy_server_options=r"""cookie a$b sni str("\$x") c \"$d '"$e"'"""),
         Instance("10.0.0.1", 80, None, 5, haproxy_server_options=r"""cookie a$b sni str("\$x") c \"$d '"$e"'""")),
        (b'{"host":"h","port":1,"haproxy_server_options":"check inter 2s"}',
         Instance("h", 1, None, 5, haproxy_server_options="check inter 2s")),
        (b'{"host":"h","port":1,"labels":{"b": 1, "a": [true, "1"]}}',
         Instance("h", 1, None, 5, labels='{"b":1,"a":[true,"1"]}')),
    ],
)  # fmt: skip
def test_what_others_write_is_read(data: bytes, instance: Instance) -> None:
    assert NERVE.from_data("x_y_0000000005", data) == instance


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"[]", "no map"),
        (b"null", "no map"),
        (b'"x"', "no map"),
        (b"{}", "no host"),
        (b'{"host":null,"port":1}', "no host"),
        (b'{"host":"","port":1}', "no host"),
        (b'{"host":5,"port":1}', "no text"),
        (b'{"host":"h"}', "no port"),
        (b'{"host":"h","port":null}', "no port"),
        (b'{"host":"h","port":NaN}', "not a number"),
        (b'{"host":"h","port":' + b"9" * 5000 + b"}", "digits"),
        (nerve(host="a b"), "host"),
        (nerve(host="a\nb"), "host"),
        (nerve(host="a\tb"), "host"),
        (nerve(host="a'b"), "host"),
        (nerve(host="é"), "host"),
        (nerve(host="a/b"), "host"),
        (nerve(host="1::2::3"), "host"),
        (nerve(port=0), "between 1 and 65535"),
        (nerve(port=99999), "between 1 and 65535"),
        (nerve(port=-1), "between 1 and 65535"),
        (nerve(port="99999"), "between 1 and 65535"),
        (nerve(port="80 "), "digits"),
        (nerve(port="+80"), "digits"),
        (nerve(port="٣"), "digits"),
        (nerve(port=""), "digits"),
        (nerve(port=80.0), "neither a number"),
        (nerve(port=True), "neither a number"),
        (nerve(port=[80]), "neither a number"),
        (nerve(name="a b"), "name"),
        (nerve(name="a\nserver x"), "name"),
        (nerve(name="a\u00a0b"), "name"),
        (nerve(name='a"b'), "name"),
        (nerve(name="a'b"), "name"),
        (nerve(name="a\\b"), "name"),
        (nerve(name="a#b"), "name"),
        (nerve(name="a\x00b"), "name"),
        (nerve(name="a\x85b"), "name"),
        (nerve(name="\ud800"), "surrogate"),
        (nerve(name=True), "no text"),
        (nerve(name=[]), "no text"),
        (nerve(weight=[1]), "weight"),
        (nerve(weight={"a": 1}), "weight"),
        (b'{"host":"h","port":1,"weight":1e999}', "cannot be written"),
        (nerve(haproxy_server_options="\ud800"), "surrogate"),
        (nerve(weight="\ud800"), "surrogate"),
        (nerve(host="x::1]"), "neither a host name"),
        (nerve(host="[::1x"), "neither a host name"),
        (nerve(host="[h]"), "neither a host name"),
        (nerve(port="000080"), "not a number of digits"),
        (nerve(haproxy_server_options="check\nbind :1"), "line break"),
        (nerve(haproxy_server_options="check\r"), "line break"),
        (nerve(haproxy_server_options="check\x00"), "line break"),
        (nerve(haproxy_server_options='check agent-send "${PASSWORD}"'), "environment"),
        (nerve(haproxy_server_options="""check sni a'"'"\\"$X" """), "environment"),
        (nerve(haproxy_server_options=5), "no text"),
        (nerve(labels=[]), "labels"),
        (nerve(labels="a"), "labels"),
        (nerve(labels={"a": "\ud800"}), "surrogate"),
        (b'{"host":"h","port":1,"labels":{"a":1e999}}', "cannot be written"),
    ],
)
def test_bad_data_is_refused_with_the_reason(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        NERVE.from_data("x_0000000001", data)


@given(st.binary() | JSON.map(lambda v: json.dumps(v).encode()), st.text())
def test_any_bytes_are_an_instance_or_a_reason(data: bytes, name: str) -> None:
    for decoder in (NERVE, ServersetDecoder("x")):
        decoder.from_name(name)
        decoder.from_name("base64_" + name)
        with contextlib.suppress(ValueError):
            assert decoder.from_data(name, data).host


MEMBER = {
    "additionalEndpoints": {"http": {"host": "10.0.0.1", "port": 31943}},
    "serviceEndpoint": {"host": "10.0.0.1", "port": 31000},
    "shard": 0,
    "status": "ALIVE",
}


@pytest.mark.parametrize(
    ("endpoint", "extra", "instance"),
    [
        (None, {}, Instance("10.0.0.1", 31000, "0", 1)),
        ("http", {}, Instance("10.0.0.1", 31943, "0", 1)),
        (None, {"shard": None}, Instance("10.0.0.1", 31000, None, 1)),
        ("http", {"weight": 3, "labels": {"a": 1}, "haproxy_server_options": "check"},
         Instance("10.0.0.1", 31943, "0", 1)),
        (None, {"serviceEndpoint": {"host": "h", "port": 1, "weight": 3, "labels": {"a": 1}, "name": "x",
                                    "haproxy_server_options": "check"}},
         Instance("h", 1, "0", 1, 3, "check", '{"a":1}')),
    ],
)  # fmt: skip
def test_a_serverset_member_is_read(endpoint: str | None, extra: dict[str, object], instance: Instance) -> None:
    data = json.dumps({**MEMBER, **extra}).encode()
    assert ServersetDecoder(endpoint).from_data("member_0000000001", data) == instance


@pytest.mark.parametrize(
    ("endpoint", "member", "words"),
    [
        ("thrift", MEMBER, "no additionalEndpoints.thrift"),
        ("http", {**MEMBER, "additionalEndpoints": None}, "no additionalEndpoints.http"),
        ("http", {**MEMBER, "additionalEndpoints": {"http": 5}}, "no additionalEndpoints.http"),
        (None, {}, "no serviceEndpoint"),
        (None, {"serviceEndpoint": {"port": 1}}, "no host"),
    ],
)
def test_a_member_without_the_endpoint_is_refused(endpoint: str | None, member: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServersetDecoder(endpoint).from_data("member_0000000001", json.dumps(member).encode())


def test_a_bad_node_is_skipped_by_name_and_the_rest_is_served() -> None:
    nodes = {"b_0000000002": nerve(), "a_0000000001": nerve(port=99999), "c_": nerve(host="x"), "base64_zz": b"junk"}
    read = Decoding("/p", NERVE).snapshot(nodes, b"data", ("/p/d: a directory",))
    assert read.instances == (Instance("10.0.0.1", 80, None, 2), Instance("x", 80))
    assert read.data == b"data"
    assert [problem.partition(":")[0] for problem in read.problems] == ["/p/d", "/p/a_0000000001", "/p/base64_zz"]
    assert "99999" in read.problems[1]


def test_a_huge_bad_node_is_told_in_short() -> None:
    nodes = {
        "a" * 5000: nerve(name="x y" * 100_000),
        "b": b"[" * 1_000_000,
        "c": nerve(haproxy_server_options="\n" * 9000),
    }
    problems = Decoding("/p", NERVE).snapshot(nodes).problems
    assert len(problems) == 3
    assert max(map(len, problems)) < 1000
    assert problems[0].startswith("/p/aaaa")


def test_a_node_is_decoded_again_only_when_its_data_is_new() -> None:
    decoding = Decoding("/p", NERVE)
    first, same, gone = (decoding.snapshot(nodes) for nodes in ({"a": nerve()}, {"a": nerve()}, {}))
    assert same.instances[0] is first.instances[0]
    assert gone.instances == ()
    changed = decoding.snapshot({"a": nerve(port=81)})
    assert changed.instances == (Instance("10.0.0.1", 81),)


def test_decoders_that_decode_alike_are_equal() -> None:
    assert NerveDecoder() == NerveDecoder()
    assert ServersetDecoder("a") == ServersetDecoder("a")
    assert len({ServersetDecoder("a"), ServersetDecoder("b"), ServersetDecoder(None), NerveDecoder()}) == 4
