from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from dockstack.model import Address
from dockstack.synapse.haproxy.blame import Blame, blamed
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
    static = frozenset(line.split()[1] for line in lines if line.startswith("server "))
    backend = Backend("web", lines, servers, mode="http", static=static)
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
        "resolvers nobody",
    ],
)
async def test_haproxys_own_words_name_the_server(haproxy: HaproxyBinary, tmp_path: Path, bad: str) -> None:
    whole = document("check", bad, "check")
    path = tmp_path / "candidate.cfg"
    path.write_text(render(whole).text)
    checked = await check_file(haproxy.path, path, 10)
    assert not checked.accepted
    found = blamed(checked.lines, path.read_text(), path, whole)
    assert [(service, server) for service, server, _ in found.servers] == [("s", "n1")]
    assert found.services == ()
    path.write_text(render(document("check", "check")).text)
    assert (await check_file(haproxy.path, path, 10)).accepted


async def test_two_with_the_same_id_one_is_named(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    whole = document("check", "id 1")
    path = tmp_path / "candidate.cfg"
    path.write_text(render(whole).text)
    checked = await check_file(haproxy.path, path, 10)
    assert not checked.accepted
    found = blamed(checked.lines, path.read_text(), path, whole)
    assert found.servers
    assert {server for _, server, _ in found.servers} <= {"n0", "n1"}
    assert found.services == ()


async def asked(haproxy: HaproxyBinary, path: Path, whole: Document) -> Blame:
    text = render(whole).text
    await asyncio.to_thread(path.write_text, text)
    checked = await check_file(haproxy.path, path, 10)
    assert not checked.accepted
    return blamed(checked.lines, text, path, whole)


@pytest.mark.parametrize(
    "line",
    [
        "frobnicate",
        "balance nonsense",
        "timeout server soon",
        "server own 127.0.0.1:9 nonsense",
        "server own 127.0.0.1:9 resolvers nobody",
        "use-server nobody if TRUE",
        "option external-check",
        "stick on src table nowhere",
    ],
)
async def test_a_bad_line_of_the_backend_itself_is_the_services_fault(
    haproxy: HaproxyBinary, tmp_path: Path, line: str
) -> None:
    found = await asked(haproxy, tmp_path / "candidate.cfg", document("check", lines=("mode http", line)))
    assert found.servers == ()
    assert [service for service, _ in found.services] == ["s"]
    assert "[ALERT]" in found.services[0][1]
    assert found.pointed is (not line.startswith(("option", "stick", "use-server", "server own 127.0.0.1:9 resolvers")))


async def test_words_about_the_backend_alone_point_at_nobody(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    found = await asked(haproxy, tmp_path / "candidate.cfg", document("check", "redir /x", lines=("mode tcp",)))
    assert [service for service, _ in found.services] == ["s"]
    assert not found.pointed


@pytest.mark.parametrize("line", ["frobnicate", "bind nowhere", "default_backend nowhere", "use_backend b if nothing"])
async def test_a_bad_line_of_the_frontend_is_the_services_fault(
    haproxy: HaproxyBinary, tmp_path: Path, line: str
) -> None:
    whole = document("check")
    stanza = replace(whole.stanzas["s"], frontend=Section("frontend s", ("mode http", "bind 127.0.0.1:1", line)))
    found = await asked(haproxy, tmp_path / "candidate.cfg", whole.with_stanzas(stanza))
    assert [service for service, _ in found.services] == ["s"]


async def test_what_all_have_from_the_defaults_is_nobodys_fault(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    whole = document("check")
    for line in ("frobnicate", "option external-check"):
        head = (HEAD[0], Section("defaults", (*HEAD[1].lines, line)))
        assert await asked(haproxy, tmp_path / "candidate.cfg", replace(whole, head=head)) == Blame()


async def test_a_section_of_the_users_own_is_nobodys_fault(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    whole = document("check")
    for line in ("frobnicate", "use_backend nowhere if TRUE"):
        head = (*HEAD, Section("listen web2", ("bind 127.0.0.1:1", line)))
        assert await asked(haproxy, tmp_path / "candidate.cfg", replace(whole, head=head)) == Blame()


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
    assert blamed([line], render(whole).text, FILE, whole) == Blame()


def test_a_server_that_is_named_without_a_line() -> None:
    whole = document("check")
    said = "[ALERT]    (1) : config : 'server web/n0' : it is wrong"
    assert blamed([said], render(whole).text, FILE, whole) == Blame((("s", "n0", said),))
