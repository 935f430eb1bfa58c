"""Finding the servers for which a file is refused without a name."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.synapse.haproxy.model import Document
from dockstack.synapse.haproxy.suspects import MOST_LOOKS, Suspect, guilty, suspects, without
from tests.synapse.haproxy.worlds import document, server, stanza


def test_who_is_new_or_described_otherwise_is_suspected() -> None:
    before = document(stanza("a", [server("x", 1), server("y", 2)]), stanza("b", [server("z", 1)]))
    now = document(
        stanza("a", [server("x", 1), server("y", 2, "backup"), server("w", 3)]),
        stanza("b", [server("z", 1)]),
        stanza("c", [server("v", 1)]),
    )
    assert suspects(now, before) == (("a", "y"), ("a", "w"), ("c", "v"))
    assert suspects(now, now) == ()
    assert len(suspects(now, Document())) == 5


def test_a_document_without_some() -> None:
    whole = document(stanza("a", [server("x", 1), server("y", 2)]), stanza("b", [server("x", 1)]))
    assert without(whole, [("a", "x")]) == document(stanza("a", [server("y", 2)]), stanza("b", [server("x", 1)]))
    assert without(whole, []) == whole


class Judge:
    """Takes a file from which all of the guilty are gone, unless the fault is not with a server."""

    def __init__(self, bad: frozenset[Suspect], hopeless: bool = False) -> None:
        self.bad = bad
        self.hopeless = hopeless
        self.looks = 0

    async def __call__(self, gone: Sequence[Suspect]) -> bool:
        self.looks += 1
        return not self.hopeless and self.bad <= frozenset(gone)


@given(st.integers(1, 60), st.sets(st.integers(0, 59), min_size=1, max_size=3))
async def test_the_guilty_and_nobody_else_are_found(count: int, chosen: set[int]) -> None:
    everybody = [("s", str(number)) for number in range(count)]
    bad = frozenset(one for one in everybody if int(one[1]) in chosen)
    if bad:
        assert frozenset(await guilty(everybody, Judge(bad))) == bad


async def test_one_of_thousands_is_found_in_time() -> None:
    everybody = [("s", str(number)) for number in range(5000)]
    judge = Judge(frozenset({("s", "4999")}))
    assert await guilty(everybody, judge) == (("s", "4999"),)
    assert judge.looks <= 27


async def test_too_many_guilty_ones_end_the_search() -> None:
    everybody = [("s", str(number)) for number in range(1000)]
    judge = Judge(frozenset(everybody[::2]))
    assert frozenset(await guilty(everybody, judge)) >= judge.bad
    assert judge.looks <= 2 * MOST_LOOKS


@pytest.mark.parametrize("everybody", [[], [("s", "a"), ("s", "b")]])
async def test_a_fault_that_lies_elsewhere_is_nobodys(everybody: list[Suspect]) -> None:
    judge = Judge(frozenset(), hopeless=True)
    assert await guilty(everybody, judge) == ()
    assert judge.looks <= 1
