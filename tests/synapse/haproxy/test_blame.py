from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from dockstack.model import Address
from dockstack.synapse.haproxy.blame import blamed
from dockstack.synapse.haproxy.check import check_file
from dockstack.synapse.haproxy.model import Backend, Document, Section, Server, Stanza
from dockstack.synapse.haproxy.render import render
from tests.servers.haproxy import HaproxyBinary

FILE = Path("/run/haproxy.cfg.tmp")
HEAD = (
    Section("global", ("stats socket /tmp/unused.sock",)),
    Section("defaults", ("timeout connect 1s", "timeout client 1s", "timeout server 1s")),
)


def document(*options: str, lines: tuple[str, ...] = ("mode http",)) -> Document:
    servers = tuple(
        Server(f"n{at}", Address("127.0.0.1", 80 + at), id=at + 1, options=one) for at, one in enumerate(options)
    )
    backend = Backend("web", lines, servers, mode="http")
    other = Backend("other", ("mode http",), (Server("n0", Address("127.0.0.1", 1), id=1),))
    return Document(HEAD, MappingProxyType({"s": Stanza("s", None, backend), "t": Stanza("t", None, other)}))


@pytest.mark.parametrize(
    "bad",
    [
        "nonsense",
        "check inter",
        "weight 300",
        "id 0",
        "check inter 1s frob nicate",
        "ssl ca-file /none verify required",
    ],
)
async def test_haproxys_own_words_name_the_server(haproxy: HaproxyBinary, tmp_path: Path, bad: str) -> None:
    whole = document("check", bad, "check")
    path = tmp_path / "candidate.cfg"
    path.write_text(render(whole).text)
    checked = await check_file(haproxy.path, path, 10)
    assert not checked.accepted
    found = blamed(checked.lines, path.read_text(), path, whole)
    assert [(service, server) for service, server, _ in found] == [("s", "n1")]
    path.write_text(render(document("check", "check")).text)
    assert (await check_file(haproxy.path, path, 10)).accepted


async def test_two_with_the_same_id_one_is_named(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    whole = document("check", "id 1")
    path = tmp_path / "candidate.cfg"
    path.write_text(render(whole).text)
    checked = await check_file(haproxy.path, path, 10)
    assert not checked.accepted
    assert {server for _, server, _ in blamed(checked.lines, path.read_text(), path, whole)} <= {"n0", "n1"}
    assert blamed(checked.lines, path.read_text(), path, whole)


async def test_a_bad_line_of_the_backend_itself_is_nobodys_fault(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    for lines in (("mode http", "frobnicate"), ("mode http", "server own 127.0.0.1:9 nonsense")):
        whole = document("check", lines=lines)
        path = tmp_path / "candidate.cfg"
        path.write_text(render(whole).text)
        checked = await check_file(haproxy.path, path, 10)
        assert not checked.accepted
        assert blamed(checked.lines, path.read_text(), path, whole) == ()


@pytest.mark.parametrize(
    "line",
    [
        "[NOTICE]   (1) : haproxy version is 2.8",
        "[ALERT]    (1) : config : parsing [/other/file:14] : unknown keyword",
        "[ALERT]    (1) : config : parsing [/run/haproxy.cfg.tmp:9999] : unknown keyword",
        "[ALERT]    (1) : config : parsing [/run/haproxy.cfg.tmp:0] : unknown keyword",
        "[ALERT]    (1) : config : 'server web/unheard-of' : it is wrong",
        "[ALERT]    (1) : config : 'server nowhere/n0' : it is wrong",
        "[ALERT]    (1) : config : 'server web/n' : it is wrong",
        "[ALERT]    (1) : config : Fatal errors found in configuration.",
        "",
    ],
)
def test_other_words_blame_nobody(line: str) -> None:
    whole = document("check")
    assert blamed([line], render(whole).text, FILE, whole) == ()


def test_a_server_that_is_named_without_a_line() -> None:
    whole = document("check")
    said = "[ALERT]    (1) : config : 'server web/n0' : it is wrong"
    assert blamed([said], render(whole).text, FILE, whole) == (("s", "n0", said),)
