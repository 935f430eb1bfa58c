"""Registry URLs and host lists: what is read, and what is refused with a sentence."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.model import Address
from dockstack.registry import Locator, Tls
from dockstack.registry.url import fold, is_host, parse_hosts, parse_url

ZK = Address("h", 2181)


@pytest.mark.parametrize(
    ("text", "locator", "base"),
    [
        ("zk://h/nerve", Locator("zookeeper", (ZK,)), "/nerve"),
        ("zk://h/nerve/", Locator("zookeeper", (ZK,)), "/nerve/"),
        ("zk://h", Locator("zookeeper", (ZK,)), ""),
        (" zk://h:2181, k:2182 /a//b", Locator("zookeeper", (ZK, Address("k", 2182))), "/a//b"),
        ("zk://[::1]:2182,h/x", Locator("zookeeper", (Address("::1", 2182), ZK)), "/x"),
        ("zk://h/x?session_timeout=2.5", Locator("zookeeper", (ZK,), session_timeout=2.5), "/x"),
        ("zk://u:p%40%3Aw@h/x", Locator("zookeeper", (ZK,), username="u", password="p@:w"), "/x"),
        ("zk://u:p@w@h/x", Locator("zookeeper", (ZK,), username="u", password="p@w"), "/x"),
        ("zks://h/x", Locator("zookeeper", (ZK,), tls=Tls()), "/x"),
        (
            "zks://h/x?ca_file=/a%20b&cert_file=c&key_file=k&verify=false",
            Locator("zookeeper", (ZK,), tls=Tls("/a b", "c", "k", False)),
            "/x",
        ),
        ("etcd://h,k/x", Locator("etcd", (Address("h", 2379), Address("k", 2379))), "/x"),
        ("etcds://h:1", Locator("etcd", (Address("h", 1),), tls=Tls()), ""),
        ("file:///var//run/reg%20x/", Locator("file", root="/var/run/reg x"), ""),
        ("file:/var/reg", Locator("file", root="/var/reg"), ""),
        ("file://localhost/var/reg", Locator("file", root="/var/reg"), ""),
        ("memory:///base", Locator("memory"), "/base"),
        ("memory:", Locator("memory"), ""),
    ],
)
def test_a_url_becomes_a_locator_and_a_base_as_written(text: str, locator: Locator, base: str) -> None:
    assert parse_url(text) == (locator, base)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("h:2181/x", "is no URL: write zk://h:2181/x, etcd://… or file:///DIRECTORY"),
        ("h,k/x", "is no URL such as zk://HOST:2181/BASE"),
        ("/var/x", "is no URL"),
        ("consul://h/x", "unknown registry scheme 'consul'; known: zk, zks, etcd, etcds, file"),
        ("zookeeper://h/x", "unknown registry scheme 'zookeeper'; did you mean zk?"),
        ("ectd://h/x", "did you mean etcd?"),
        ("ZK://h/x", "did you mean zk?"),
        ("zk:///x", "names no host"),
        ("zk://,/x", "host list is empty"),
        ("zk://h:0/x", "between 1 and 65535"),
        ("zk://h:99999/x", "between 1 and 65535"),
        ("zk://h:99999999999999999999/x", "between 1 and 65535"),
        ("zk://h:/x", "between 1 and 65535"),
        ("zk://h:٣/x", "between 1 and 65535"),
        ("zk://::1/x", "in brackets"),
        ("zk://[::1/x", "in brackets"),
        ("zk://[h]:1/x", "in brackets"),
        ("zk://a b:1/x", "neither a host name nor"),
        ("zk://u@h/x", "USER:PASSWORD@"),
        ("zk://:p@h/x", "USER:PASSWORD@"),
        ("zk://u:%ff@h/x", "not UTF-8"),
        ("zk://h/x?sesion_timeout=3", "did you mean session_timeout?"),
        ("zk://h/x?color=red", "unknown option 'color'; known: session_timeout"),
        ("zk://h/x?session_timeout=0", "seconds above 0"),
        ("zk://h/x?session_timeout=nan", "seconds above 0"),
        ("zk://h/x?session_timeout=inf", "seconds above 0"),
        ("zk://h/x?session_timeout=3s", "seconds above 0"),
        ("zk://h/x?session_timeout=3&session_timeout=4", "given twice"),
        ("zk://h/x?ca_file=/x", "write zks://"),
        ("zks://h/x?verify=maybe", "neither true nor false"),
        ("zks://h/x?key_file=/k", "without cert_file"),
        ("zk://h/x#y", "is no URL"),
        ("zk://h\n/x", "is no URL"),
        ("file://", "names no directory"),
        ("file:///", "names no directory"),
        ("file:relative/x", "relative directory"),
        ("file://relative/x", "write file:///relative/x"),
        ("file:///x?session_timeout=3", "takes none"),
        ("file:///x%00", "control character"),
    ],
)
def test_a_wrong_url_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "zk://me:secret@/x",
        "zk://me:secret@h:0/x",
        "zx://me:secret@h/x",
        "me:secret@h/x",
        "zk://secret@h/x",
        "file://me:secret@h/x",
    ],
)
def test_a_refusal_never_shows_a_password(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_url(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("hosts", "expected", "chroot"),
    [
        (["h"], (ZK,), ""),
        (["h:1 , k:2", " m "], (Address("h", 1), Address("k", 2), Address("m", 2181)), ""),
        (["h,k/a//b/"], (ZK, Address("k", 2181)), "/a/b"),
        (["h/a", "k/a"], (ZK, Address("k", 2181)), "/a"),
        (["h", "k/a"], (ZK, Address("k", 2181)), "/a"),
        (["h/", "k/"], (ZK, Address("k", 2181)), ""),
        (["h,,k,"], (ZK, Address("k", 2181)), ""),
        (["[fe80::1]"], (Address("fe80::1", 2181),), ""),
    ],
)
def test_a_host_list_becomes_addresses_and_a_chroot(
    hosts: list[str], expected: tuple[Address, ...], chroot: str
) -> None:
    assert parse_hosts(hosts, 2181) == (expected, chroot)


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([], "empty"),
        ([" , "], "empty"),
        (["h/a", "k/b"], "different chroots"),
        (["h/a", "k"], "different chroots"),
        (["h/a", "k", "m/a"], "different chroots"),
        (["/a"], "neither a host name nor"),
        (["h k"], "neither a host name nor"),
        (["h:x"], "between 1 and 65535"),
        (["http://h:1"], "without http://"),
        (["fe80::1%eth0"], "in brackets"),
        (["[fe80::1%eth0]:1"], "neither a host name nor"),
    ],
)
def test_a_wrong_host_list_is_refused_with_the_reason(hosts: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_hosts(hosts, 2181)


@given(
    st.lists(
        st.builds(
            Address,
            st.one_of(
                st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}(\.[a-z0-9-]{1,9}){0,3}\.?", fullmatch=True),
                st.ip_addresses(v=6).map(str),
            ),
            st.integers(1, 65535),
        ),
        min_size=1,
    )
)
def test_written_addresses_are_read_back(addresses: list[Address]) -> None:
    assert parse_hosts([str(a) for a in addresses], 1) == (tuple(addresses), "")
    assert parse_hosts([", ".join(map(str, addresses))], 1) == (tuple(addresses), "")


@pytest.mark.parametrize(
    ("path", "folded"),
    [("", "/"), ("/", "/"), ("//a///b//", "/a/b"), ("a", "/a"), ("/a/b", "/a/b"), ("/nerve/", "/nerve")],
)
def test_slashes_are_folded(path: str, folded: str) -> None:
    assert fold(path) == folded


@given(st.text("a/."))
def test_a_folded_path_stays_as_it_is(path: str) -> None:
    once = fold(path)
    assert once.startswith("/")
    assert "//" not in once
    assert once == "/" or not once.endswith("/")
    assert fold(once) == once


@pytest.mark.parametrize(
    ("text", "fits"),
    [("a", True), ("my_container-1.x", True), ("10.0.0.1", True), ("::1", True), ("", False), ("-a", False),
     ("a b", False), ("é", False), ("a\n", False), ("[::1]", False), ("a" * 254, False), ("a/b", False),
     (":::", False), ("a..b", False), (".a", False), ("a.", True), ("a.-b", True), ("l" * 63 + ".x", True),
     ("l" * 64 + ".x", False), ("x." + "l" * 64, False), (".".join("abcd" * 60), False)],
)  # fmt: skip
def test_what_looks_like_a_host(text: str, fits: bool) -> None:
    assert is_host(text) is fits
