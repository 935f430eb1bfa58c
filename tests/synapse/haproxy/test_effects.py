"""What steps leave behind, held against real HAProxys: the model and the process never part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from dockstack.model import Address
from dockstack.synapse.haproxy.commands import commands
from dockstack.synapse.haproxy.effects import after, loaded
from dockstack.synapse.haproxy.model import (
    Add,
    Admin,
    Delete,
    Document,
    Drain,
    Maintain,
    Ready,
    Running,
    Section,
    Server,
    SetWeight,
    Step,
    Trust,
    capabilities,
)
from dockstack.synapse.haproxy.plan import plan
from dockstack.synapse.haproxy.render import render
from dockstack.synapse.haproxy.runtime import Runtime
from tests.servers.haproxy import HaproxyBinary
from tests.synapse.haproxy.running import reach, small, started
from tests.synapse.haproxy.worlds import differences, document, server, stanza

A, B, C = server("a", 1), server("b", 2, "check weight 5"), server("c", 3, "")
TIMEOUTS = tuple(f"timeout {one} 1s" for one in ("connect", "client", "server"))


def test_a_loaded_document_serves_what_is_not_disabled() -> None:
    running = loaded(document(stanza("s", [A, server("d", 4, "check disabled")])), capabilities((2, 8)))
    servers = running.backends["s"].servers
    assert {name: (one.admin, one.weight, one.known) for name, one in servers.items()} == {
        "a": (Admin.READY, 1, True),
        "d": (Admin.MAINT, 1, True),
    }


def test_other_backends_stay_the_same_objects() -> None:
    running = loaded(document(stanza("s", [A]), stanza("t", [A])), capabilities((2, 8)))
    moved = after(running, [Maintain("s", "a"), Add("s", B)])
    assert moved.backends["t"] is running.backends["t"]
    assert after(running, []) is running


def test_steps_that_haproxy_would_refuse_have_no_effect() -> None:
    running = loaded(document(stanza("s", [A])), capabilities((2, 8)))
    other = replace(A, address=Address("10.9.9.9", 1))
    for step in (Delete("s", "a"), Add("s", other), Ready("s", "x"), Drain("s", "x"), SetWeight("s", "x", 1)):
        assert after(running, [step]).backends["s"].servers == running.backends["s"].servers


async def carry_out(runtime: Runtime, running: Running, steps: tuple[Step, ...]) -> Running:
    """Each step on the real process and on the model, which must agree after each."""
    for step in steps:
        sent = commands(step, running.capabilities)
        replies = await runtime.ask([one.line for one in sent], 5)
        assert [one for one, reply in zip(sent, replies, strict=True) if not one.accepts(reply)] == [], replies
        running = after(running, [step])
        assert await read_back(runtime) == modelled(running)
    return running


Seen = Mapping[str, tuple[Address | None, int | None, Admin, int]]


async def read_back(runtime: Runtime) -> Mapping[str, Seen]:
    found = await runtime.servers(5)
    return {
        backend: {name: (one.address, one.id, one.admin, one.weight) for name, one in servers.items()}
        for backend, servers in found.items()
        if backend != "MASTER"
    }


def modelled(running: Running) -> Mapping[str, Seen]:
    return {
        name: {
            each: (one.server.address, one.server.id, one.admin, one.weight) for each, one in backend.servers.items()
        }
        for name, backend in running.backends.items()
        if backend.servers
    }


def of(*servers: Server, lines: tuple[str, ...]) -> Document:
    found = document(stanza("s", servers, lines), stanza("other", [A]), defaults=("mode http", *TIMEOUTS))
    kept = {name: replace(one, frontend=None) for name, one in found.stanzas.items()}
    return replace(found, stanzas=MappingProxyType(kept))


async def walk(haproxy: HaproxyBinary, directory: Path, *documents: Document) -> list[tuple[Step, ...]]:
    """A real process from the first document through the others, by commands alone; gives the steps of each."""
    one = small(directory, haproxy.path)
    first = documents[0]
    lines = (f"stats socket {one.place.stats_socket} mode 600 level admin",)
    head = (Section("global", lines), *first.head[1:], Section(f"listen x{one.port}", (f"bind 127.0.0.1:{one.port}",)))
    one.place.config.write_text(render(replace(first, head=head)).text)
    async with started(one):
        runtime = await reach(one.place)
        identity = await runtime.identity(5)
        running = loaded(first, capabilities(identity.version))
        assert await read_back(runtime) == modelled(running)
        done = []
        for wanted in documents[1:]:
            found = plan(running, wanted)
            assert found.reload_reasons == ()
            running = await carry_out(runtime, running, found.steps)
            assert differences(running, wanted) == []
            done.append(found.steps)
        runtime.close()
        return done


async def test_membership_on_a_real_haproxy(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    six = server("six", 6, "check inter 1s", host="::1")
    changed = replace(B, weight=None, options="check weight 9 inter 5s")
    for mode, away in (("http", Maintain), ("tcp", Drain)):
        directory = tmp_path / mode
        directory.mkdir()
        lines = (f"mode {mode}", "default-server inter 3s fall 2", "balance leastconn")
        steps = await walk(
            haproxy,
            directory,
            *(of(*servers, lines=lines) for servers in ([A], [A, B, C], [B, six], [A, B, six], [C])),
        )
        assert away("s", "a") in steps[1]
        assert Ready("s", "a", True) in steps[2]
        assert not any(isinstance(step, Delete) for each in steps for step in each)
        weighted = replace(B, weight=7)
        steps = await walk(haproxy, directory, *(of(A, one, lines=lines) for one in (B, weighted)))
        assert steps == [(SetWeight("s", "b", 7),)]
        if haproxy.version >= (2, 8):
            steps = await walk(haproxy, directory, *(of(A, one, lines=lines) for one in (B, changed, B)))
            assert [type(step) for step in steps[0]] == [Maintain, Delete, Add]


async def test_who_waits_for_a_check_on_a_real_haproxy(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    new = server("n", 9, "check inter 30s")
    lines = ("mode http",)
    steps = await walk(haproxy, tmp_path, *(of(*some, lines=lines) for some in ([B], [B, new], [new], [B], [new])))
    waits = haproxy.version >= (3, 2)
    assert (Trust("s", "n") in steps[1], Trust("s", "n") in steps[3]) == (waits, waits)


async def test_a_cookie_on_a_real_haproxy(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    named = server("c", 3, "cookie c check")
    await walk(haproxy, tmp_path, *(of(*servers, lines=("mode http",)) for servers in ([A], [A, named])))
    if haproxy.version >= (2, 8):
        lines = ("mode http", "cookie SRV insert indirect nocache")
        await walk(haproxy, tmp_path, *(of(*servers, lines=lines) for servers in ([A], [A, named])))


async def test_words_that_are_left_out_or_agree_with_add_server(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    options = (
        "check inter 2s fastinter 1s downinter 5s rise 3 fall 2 port 81 addr 127.0.0.1",
        "init-addr none check maxconn 50 maxqueue 5 minconn 3 slowstart 5s backup",
        "check on-marked-down shutdown-sessions on-marked-up shutdown-backup-sessions send-proxy-v2 error-limit 3",
        "check observe layer4 on-error fastinter pool-max-conn 5 source 127.0.0.1 check-send-proxy",
        "agent-check agent-port 5 agent-inter 5s weight 5 id 77",
    )
    some = [server(f"s{number}", number, text) for number, text in enumerate(options, 10)]
    await walk(haproxy, tmp_path, *(of(*servers, lines=("mode http",)) for servers in ([A], [A, *some])))
