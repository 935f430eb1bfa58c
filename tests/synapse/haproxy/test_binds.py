from __future__ import annotations

from types import MappingProxyType

import pytest

from dockstack.synapse.haproxy.binds import Bind, binds
from dockstack.synapse.haproxy.model import Backend, Document, Section, Stanza


def document(*lines: str, head: tuple[Section, ...] = (), tail: tuple[Section, ...] = ()) -> Document:
    stanza = Stanza("web", Section("frontend web", lines), Backend("web", ()))
    return Document(head, MappingProxyType({"web": stanza}), tail)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("bind 127.0.0.1:80", [Bind("127.0.0.1", 80)]),
        ("bind :80", [Bind("0.0.0.0", 80)]),
        ("bind *:80 accept-proxy", [Bind("0.0.0.0", 80)]),
        ("bind [::1]:80", [Bind("::1", 80)]),
        ("bind ::1:80", [Bind("::1", 80)]),
        ("bind :::80 v4v6", [Bind("::", 80, False)]),
        ("bind [::]:80 v6only", [Bind("::", 80, True)]),
        ("bind ipv4@:80", [Bind("0.0.0.0", 80)]),
        ("bind 127.0.0.1:80,127.0.0.2:81 # both", [Bind("127.0.0.1", 80), Bind("127.0.0.2", 81)]),
        ("bind 127.0.0.1:80-82", [Bind("127.0.0.1", 80), Bind("127.0.0.1", 81), Bind("127.0.0.1", 82)]),
        ("bind 127.0.0.1:80 interface eth0", []),
        ("bind 192.0.2.1:80 transparent", []),
        ("bind 127.0.0.1:80 namespace blue", []),
        ("bind localhost:80", []),
        ("bind /run/web.sock", []),
        ("bind unix@/run/web:80", []),
        ("bind quic4@127.0.0.1:80", []),
        ("bind fd@3", []),
        ("bind ${HOST}:80", []),
        ("bind 127.0.0.1:${PORT}", []),
        ("bind 127.0.0.1:0", []),
        ("bind 127.0.0.1:70000", []),
        ("bind 127.0.0.1:80 name 'open", []),
        ("bind", []),
        ("binder 127.0.0.1:80", []),
    ],
)
def test_a_line(line: str, found: list[Bind]) -> None:
    assert binds(document(line)) == ({"web": tuple(found)} if found else {})


def test_many_ports_are_looked_at_up_to_a_limit() -> None:
    assert len(binds(document("bind 127.0.0.1:1-65535"))["web"]) == 64


def test_sections_of_no_service() -> None:
    head = (Section("global", ("stats socket 127.0.0.1:9",)), Section("listen stats", ("bind 127.0.0.1:1",)))
    tail = (Section("frontend shared-frontend", ("bind 127.0.0.1:2",)), Section("backend x", ("bind 127.0.0.1:3",)))
    around = (Bind("127.0.0.1", 1), Bind("127.0.0.1", 2))
    assert binds(document("mode tcp", head=head, tail=tail)) == {"": around}


def test_nothing_is_said_where_the_sockets_of_haproxy_itself_would_be_in_the_way() -> None:
    assert binds(document("bind 127.0.0.1:80", head=(Section("global", ("noreuseport",)),))) == {}
