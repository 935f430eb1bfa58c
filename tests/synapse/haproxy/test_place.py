"""Which server each instance becomes."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.model import Address, Entry, Instance
from dockstack.registry.codec import Decoding, NerveDecoder
from dockstack.settings.synapse import HaproxySettings, SynapseService
from dockstack.synapse.haproxy import meaning
from dockstack.synapse.haproxy.commands import commands
from dockstack.synapse.haproxy.effects import after, loaded
from dockstack.synapse.haproxy.model import capabilities
from dockstack.synapse.haproxy.place import Placed, Rules, place, rules, server_name
from dockstack.synapse.haproxy.plan import plan
from dockstack.synapse.haproxy.render import render
from dockstack.synapse.haproxy.runtime import WINDOW
from dockstack.synapse.haproxy.server import read, write
from dockstack.synapse.haproxy.text import parse
from tests.servers.haproxy import HaproxyBinary
from tests.synapse.haproxy.worlds import VERSIONS, document, server, stanza

A = Instance("10.0.0.1", 3001, "a", 3)
B = Instance("10.0.0.2", 3001, "b", 1)
C = Instance("10.0.0.3", 3002, None, None)


def laws(lines: tuple[str, ...] = (), host: str = "here", top: dict[str, Any] | None = None, **haproxy: Any) -> Rules:
    defaults = haproxy.pop("default_servers", [])
    own = SynapseService.model_validate(
        {"discovery": {"method": "base"}, "default_servers": defaults, "haproxy": haproxy}
    )
    settings = HaproxySettings(**{"global": [], "defaults": [], **(top or {})})
    return rules("svc", own, settings, meaning.backend("svc", lines, (), ()), host)


def placed(*instances: Instance, known: dict[str, int] | None = None, **settings: Any) -> Placed:
    return place(laws(**{"backend_order": "no_shuffle", **settings}), Entry(instances), {}, known or {})


def written(*instances: Instance, **settings: Any) -> list[str]:
    return [write(one) for one in placed(*instances, **settings).servers]


def test_a_server_line() -> None:
    assert written(A, C, server_options="check inter 2s") == [
        "server a_10.0.0.1:3001 10.0.0.1:3001 id 3 cookie a_10.0.0.1:3001 check inter 2s",
        f"server 10.0.0.3:3002 10.0.0.3:3002 id {ids(placed(C))['10.0.0.3:3002']} cookie 10.0.0.3:3002 check inter 2s",
    ]


def ids(found: Placed) -> dict[str, int | None]:
    return {one.name: one.id for one in found.servers}


@pytest.mark.parametrize(
    ("lines", "method", "cookie"),
    [
        (("mode http",), "name", "a_10.0.0.1:3001"),
        (("mode http",), "hash", hashlib.sha1(b"a_10.0.0.1:3001").hexdigest()),
        (("mode tcp",), "name", None),
        (("mode tcp",), "hash", None),
        (("mode  tcp",), "name", "a_10.0.0.1:3001"),
        ((), "name", "a_10.0.0.1:3001"),
    ],
)
def test_the_cookie_is_the_name_or_its_hash_and_tcp_has_none(
    lines: tuple[str, ...], method: str, cookie: str | None
) -> None:
    assert placed(A, lines=lines, cookie_value_method=method).servers[0].cookie == cookie


def test_options_are_templates_over_the_instance() -> None:
    one = replace(A, haproxy_server_options="backup agent-port %{port}")
    line = written(one, server_options="check addr %{host} sni str(%{name}) weight 50%%")[0]
    assert line.endswith("check addr 10.0.0.1 sni str(a_10.0.0.1:3001) weight 50% backup agent-port 3001")


def test_a_name_is_written_as_its_address_and_kept_in_the_servers_name() -> None:
    named = Instance("db1", "3306", "x", 5)
    found = place(laws(), Entry((named, B)), {"db1": "fd00::1"}, {})
    assert {one.name: one.address for one in found.servers}["x_db1:3306"] == Address("fd00::1", 3306)
    lost = place(laws(), Entry((named, B)), {}, {})
    assert [one.name for one in lost.servers] == ["b_10.0.0.2:3001"]
    assert "db1 cannot be resolved" in lost.problems[0]


@pytest.mark.parametrize(
    "bad",
    [
        Instance("10.0.0.1", 1, "a/b"),
        Instance("10.0.0.1", 1, "é"),
        Instance("10.0.0.1", 1, haproxy_server_options="check # no"),
        Instance("10.0.0.1", 1, haproxy_server_options='sni "x'),
        Instance("10.0.0.1", 1, haproxy_server_options="weight 50%"),
        Instance("10.0.0.1", 1, haproxy_server_options="addr %{ip}"),
        Instance("10.0.0.1", "http"),
        Instance("10.0.0.1", 1, "own"),
    ],
)
def test_one_bad_instance_is_skipped_by_name(bad: Instance) -> None:
    found = placed(bad, A, lines=("server own_10.0.0.1:1 10.0.0.1:1",))
    assert [one.name for one in found.servers] == ["a_10.0.0.1:3001"]
    assert repr(server_name(bad)) in found.problems[0]


@pytest.mark.parametrize(
    ("weight", "options", "end"),
    [
        (10, None, "check inter 2s weight 10"),
        (0, "weight 3  maxconn 9", "check inter 2s maxconn 9 weight 0"),
        (300, None, "check inter 2s weight 256"),
        (None, None, "check weight 7 inter 2s"),
        ("5", None, "check weight 7 inter 2s"),
        (1.5, None, "check weight 7 inter 2s"),
        (True, None, "check weight 7 inter 2s"),
        (-1, None, "check weight 7 inter 2s"),
    ],
)
def test_weights_from_nerve(weight: Any, options: str | None, end: str) -> None:
    one = replace(A, weight=weight, haproxy_server_options=options)
    line = written(one, server_options="check weight 7  inter 2s", top={"use_nerve_weights": True})[0]
    assert line.endswith(f"cookie a_10.0.0.1:3001 {end}")


def test_without_the_setting_a_weight_from_nerve_is_nothing() -> None:
    assert written(replace(A, weight=10), use_nerve_weights=True)[0].endswith("cookie a_10.0.0.1:3001")


def test_orders() -> None:
    assert [one.name[0] for one in placed(B, A, backend_order="asc").servers] == ["a", "b"]
    assert [one.name[0] for one in placed(A, B, backend_order="desc").servers] == ["b", "a"]
    assert [one.name[0] for one in placed(B, A, backend_order="no_shuffle").servers] == ["b", "a"]
    many = [Instance("10.0.0.1", port) for port in range(1, 30)]
    orders = [placed(*many, backend_order=None, host=host).servers for host in ("one", "one", "two")]
    assert orders[0] == orders[1] != orders[2]
    seeded = [placed(*many, backend_order=None, host=host, top={"server_order_seed": 7}) for host in ("one", "two")]
    assert seeded[0] == seeded[1]


def test_an_id_is_kept_as_long_as_the_server_is_known() -> None:
    assert ids(placed(A, B, known={"a_10.0.0.1:3001": 8})) == {"a_10.0.0.1:3001": 8, "b_10.0.0.2:3001": 1}


def test_the_id_of_a_server_that_is_known_and_away_stays_taken() -> None:
    assert ids(placed(A, known={"gone": 3}))["a_10.0.0.1:3001"] not in (None, 3)


def test_an_id_among_the_options_wins() -> None:
    one = replace(B, haproxy_server_options="check id 77")
    found = placed(A, one, known={"b_10.0.0.2:3001": 9, "a_10.0.0.1:3001": 77})
    assert ids(found)["b_10.0.0.2:3001"] == 77
    assert ids(found)["a_10.0.0.1:3001"] == 3
    assert write(found.servers[1]) == "server b_10.0.0.2:3001 10.0.0.2:3001 cookie b_10.0.0.2:3001 check id 77"


def test_an_id_that_two_ask_for_goes_to_the_first_name() -> None:
    two = [replace(one, haproxy_server_options="id 77 check") for one in (B, A)]
    found = placed(*two)
    assert ids(found) == {"a_10.0.0.1:3001": 77, "b_10.0.0.2:3001": 1}
    assert [one.options for one in found.servers if one.name[0] == "b"] == ["check"]
    assert "77" in found.problems[0]


def test_a_default_server_can_ask_for_an_id() -> None:
    default = {"host": "10.0.0.1", "port": 3001, "name": "a", "haproxy_server_id": 50}
    assert ids(placed(A, B, default_servers=[default])) == {"a_10.0.0.1:3001": 50, "b_10.0.0.2:3001": 1}


def test_ids_in_the_backends_own_lines_are_taken() -> None:
    assert ids(placed(A, lines=("server x 10.0.0.9:1 id 3",)))["a_10.0.0.1:3001"] not in (None, 3)


def test_a_registry_number_out_of_range_becomes_one_that_follows_from_the_name() -> None:
    far = replace(A, id=70_000)
    assert ids(placed(far)) == ids(placed(replace(A, id=None)))
    assert 1 <= (ids(placed(far))["a_10.0.0.1:3001"] or 0) <= 65_535


def test_the_number_that_follows_from_a_name_is_the_same_on_every_host_and_in_every_version() -> None:
    assert ids(placed(C)) == {"10.0.0.3:3002": 26750}
    for taken, number in (((8,), 9), ((8, 9), 1), ((1, 2, 3, 4, 5, 6, 7, 8, 9), None)):
        known = {f"gone{one}:1": one for one in taken}
        assert ids(placed(C, known=known, top={"max_server_id": 9})) == {"10.0.0.3:3002": number}


@pytest.mark.parametrize("free", [1, 2, 3])
def test_a_free_id_is_found_whatever_lies_beyond_the_largest(free: int) -> None:
    known = {f"gone{one}:1": one for one in {1, 2, 3, 99, 100} - {free}}
    assert ids(placed(C, known=known, top={"max_server_id": 3})) == {"10.0.0.3:3002": free}


def test_an_id_that_two_are_known_for_goes_to_the_first_name() -> None:
    for known in ({"a_10.0.0.1:3001": 5, "b_10.0.0.2:3001": 5}, {"b_10.0.0.2:3001": 5, "a_10.0.0.1:3001": 5}):
        assert ids(placed(A, B, known=known)) == {"a_10.0.0.1:3001": 5, "b_10.0.0.2:3001": 1}


def test_without_a_free_id_a_server_has_none() -> None:
    found = placed(A, B, C, top={"max_server_id": 2})
    assert sorted(str(one) for one in ids(found).values()) == ["1", "2", "None"]
    assert "no id" in found.problems[0]


def test_no_server_takes_the_number_that_the_registry_gave_another() -> None:
    found = [Instance("10.0.0.1", 80, "a", 9), Instance("10.0.0.2", 80, "b", 1), Instance("10.0.0.3", 80, "c", 2)]
    few = ids(place(laws(top={"max_server_id": 2}), Entry(tuple(found)), {}, {}))
    assert few == {"a_10.0.0.1:80": None, "b_10.0.0.2:80": 1, "c_10.0.0.3:80": 2}
    found = [Instance("10.0.0.1", 80, f"a{number}") for number in range(4)] + found[1:]
    more = ids(place(laws(top={"max_server_id": 6}), Entry(tuple(found)), {}, {}))
    assert (more["b_10.0.0.2:80"], more["c_10.0.0.3:80"], set(more.values())) == (1, 2, {1, 2, 3, 4, 5, 6})


def test_departed_servers_are_listed_as_disabled_with_their_ids() -> None:
    gone = Instance("10.0.0.99", 3001, "old", 9)
    known = {"old_10.0.0.99:3001": 5}
    found = place(laws(backend_order="asc", server_options="check"), Entry((A,)), {}, known, (gone, A))
    assert [write(one) for one in found.servers] == [
        "server a_10.0.0.1:3001 10.0.0.1:3001 id 3 cookie a_10.0.0.1:3001 check",
        "server old_10.0.0.99:3001 10.0.0.99:3001 id 5 cookie old_10.0.0.99:3001 check disabled",
    ]
    assert found.problems == ()
    assert place(laws(), Entry(()), {}, {}, (Instance("db9", 1),)) == Placed(())


def test_a_server_that_is_announced_twice_is_there_once() -> None:
    found = placed(Instance("y", 1, "x"), Instance("10.0.0.1", 1, "n"), Instance("10.0.0.1", 1, "n"))
    assert [one.name for one in found.servers] == ["n_10.0.0.1:1"]
    assert len(found.problems) == 2


def accepts(haproxy: HaproxyBinary, directory: Path, *lines: str) -> bool:
    path = directory / "haproxy.cfg"
    timeouts = [f"timeout {one} 1s" for one in ("connect", "client", "server")]
    path.write_text("\n".join(["defaults", "mode http", *timeouts, "listen b", "bind 127.0.0.1:1", *lines, ""]))
    return (
        subprocess.run([haproxy.path, "-c", "-f", path], capture_output=True, timeout=120, check=False).returncode == 0
    )


def test_haproxy_takes_the_lines(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    some = [replace(A, weight=999), replace(B, weight=0), Instance("fd00::1", 80, "six", 7), Instance("::1", 1)]
    found = placed(*some, top={"use_nerve_weights": True}, server_options="check inter 2s weight 3")
    assert (len(found.servers), found.problems) == (4, ())
    assert accepts(haproxy, tmp_path, *map(write, found.servers))


def test_haproxy_agrees_about_names(haproxy: HaproxyBinary, tmp_path: Path) -> None:
    for char in "aZ9_.:-/@é,;+~%(":
        one = Instance("10.0.0.1", 1, f"x{char}y")
        taken = accepts(haproxy, tmp_path, f"server {server_name(one)} 10.0.0.1:1")
        assert bool(placed(one).servers) is taken, char


def test_a_name_that_is_too_long_for_a_command_is_left_out_and_told_in_short() -> None:
    found = placed(A, replace(B, name="n" * 20_000), replace(C, name="n" * 900))
    assert [one.name[:4] for one in found.servers] == ["a_10", "nnnn"]
    assert len(found.problems) == 1
    assert "characters" in found.problems[0]
    assert len(found.problems[0]) < 300


_PLAIN = "check weight id cookie x ² ٣ 1 -1 300 ; << # % %% %{host} %{x} disabled track agent-check init-state inter é"
_NASTY = (*_PLAIN.split(), '"', '"a b"', "'x'", "\\;", "\\\\;", "\\n", "\u00a0", "\ufeff", "9" * 5000, "x" * 20_000)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "host": st.sampled_from(("10.0.0.1", "::1", "db1", "1")),
                "port": st.sampled_from((1, "0003", 65535)),
                "name": st.sampled_from(("a", None, "²", "n" * 20_000, 1.5, "é", "-")),
                "weight": st.sampled_from((None, 1, -1, "a", 300, 10**30, 1.5, True)),
                "haproxy_server_options": st.lists(st.sampled_from(_NASTY), max_size=5).map(" ".join),
            }
        ),
        max_size=3,
    ),
    st.booleans(),
    st.sampled_from(VERSIONS),
)
def test_whatever_is_registered_is_one_line_of_the_file_and_one_command(
    nodes: list[dict[str, Any]], weights: bool, version: tuple[int, int]
) -> None:
    data = {f"n_{number}": json.dumps(node).encode() for number, node in enumerate(nodes)}
    instances = Decoding("/svc", NerveDecoder()).snapshot(data).instances
    law = laws(server_options="check", top={"use_nerve_weights": weights})
    found = place(law, Entry(instances), {"db1": "10.0.0.9", "1": "0.0.0.1"}, {})
    wanted = document(stanza("svc", found.servers))
    assert parse(render(wanted).text) == wanted
    running = loaded(document(stanza("svc", [server("old", 77)])), capabilities(version))
    steps = plan(running, wanted).steps
    for line in (one.line for step in steps for one in commands(step, running.capabilities)):
        assert len(line.encode()) < WINDOW
        assert not {"\n", ";"} & set(line)
        assert "<<" not in line
    assert plan(after(running, steps), wanted) is not None


INSTANCES = st.lists(
    st.builds(
        Instance,
        host=st.sampled_from(("10.0.0.1", "10.0.0.2", "db1")),
        port=st.integers(1, 4),
        name=st.sampled_from((None, "a", "b")),
        id=st.one_of(st.none(), st.integers(0, 9)),
        weight=st.one_of(st.none(), st.integers(0, 300)),
        haproxy_server_options=st.sampled_from((None, "check", "id 2", "weight 5 backup")),
    ),
    unique_by=server_name,
    max_size=8,
)
KNOWN = st.dictionaries(st.sampled_from(("10.0.0.1:1", "a_10.0.0.1:2", "b_db1:3", "gone")), st.integers(1, 9))
RULES = laws(server_options="check", top={"use_nerve_weights": True, "max_server_id": 9})
NAMES = {"db1": "10.0.0.9"}


@given(INSTANCES, KNOWN, st.randoms(use_true_random=False))
def test_the_order_of_the_instances_does_not_matter(found: list[Instance], known: dict[str, int], chance: Any) -> None:
    other = found[:]
    chance.shuffle(other)
    assert place(RULES, Entry(tuple(found)), NAMES, known) == place(RULES, Entry(tuple(other)), NAMES, known)


@given(INSTANCES, INSTANCES)
def test_a_server_that_stays_keeps_its_id(before: list[Instance], after: list[Instance]) -> None:
    asked = "id 2"
    before, after = ([one for one in each if one.haproxy_server_options != asked] for each in (before, after))
    first = ids(place(RULES, Entry(tuple(before)), NAMES, {}))
    known = {name: number for name, number in first.items() if number is not None}
    second = ids(place(RULES, Entry(tuple(after)), NAMES, known))
    assert {name: second[name] for name in known.keys() & second.keys()} == {
        name: known[name] for name in known.keys() & second.keys()
    }


@given(INSTANCES, KNOWN)
def test_ids_are_unique_and_in_range_and_lines_are_read_back(found: list[Instance], known: dict[str, int]) -> None:
    servers = place(RULES, Entry(tuple(found)), NAMES, known).servers
    numbers = [one.id for one in servers if one.id is not None]
    assert len(numbers) == len(set(numbers))
    assert all(1 <= one <= 9 for one in numbers)
    assert [read(write(one)) for one in servers] == [*servers]
    assert len(servers) == len(found)
