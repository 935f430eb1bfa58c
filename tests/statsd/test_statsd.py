"""How metrics are written: lines, datagrams, names of clusters."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.model import Address
from dockstack.registry import Locator
from dockstack.statsd import CLEAN, LONGEST, Metric, cluster, datagrams, line, stop


@pytest.mark.parametrize(
    ("metric", "rate", "text"),
    [
        (Metric("nerve.start"), 1, "nerve.start:1|c"),
        (Metric("nerve.start", value=12), 1, "nerve.start:12|c"),
        (Metric("a", ("x:1", "y:two words")), 1, "a:1|c|#x:1,y:two words"),
        (Metric("a", value=12.34, kind="ms"), 1, "a:12.34|ms"),
        (Metric("a", ("x:1",), 65536, "g"), 1, "a:65536|g|#x:1"),
        (Metric("a", ("x:1",)), 0.25, "a:1|c|@0.25|#x:1"),
        (Metric("a", ("x:o|n,e\nb",)), 1, "a:1|c|#x:o_n_e_b"),
        (Metric("a", ("check_name:http-h:80/a?b#c",)), 1, "a:1|c|#check_name:http-h:80/a?b#c"),
    ],
)
def test_a_line(metric: Metric, rate: float, text: str) -> None:
    assert line(metric, rate) == text


@given(st.lists(st.text("abc", min_size=1, max_size=LONGEST + 10), max_size=30))
def test_datagrams_hold_all_lines_in_order_and_are_no_longer_than_a_packet(lines: list[str]) -> None:
    packed = list(datagrams(lines))
    assert [each for one in packed for each in one.decode().split("\n")] == lines
    assert all(len(one) <= LONGEST or b"\n" not in one for one in packed)
    assert all(len(before) + 1 + len(after.split(b"\n")[0]) > LONGEST for before, after in pairwise(packed))


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (("zk-main3.example.com", "zk-main12.example.com"), "zk-main"),
        (("zoo.example.com",), "zoo"),
        (("b1", "a2"), "a"),
        (("10.0.0.1",), "10.0.0.1:2181"),
    ],
)
def test_a_cluster_is_named_by_its_first_host(hosts: tuple[str, ...], name: str) -> None:
    assert cluster(Locator("zookeeper", tuple(Address(host, 2181) for host in hosts))) == name


def test_the_end_says_how_it_came() -> None:
    assert stop(None) == CLEAN
    assert stop(KeyError("x")) == (
        "stop_avenue:abort", "stop_location:main_loop", "exception_name:KeyError", "exception_message:'x'"
    )  # fmt: skip
