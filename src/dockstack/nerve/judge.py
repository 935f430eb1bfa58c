"""From the results of a check to whether it counts as up: rise and fall. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """How many equal results in a row change what is believed. `strict_rise`: the first `rise` count as well."""

    rise: int = 1
    fall: int = 1
    strict_rise: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """What is believed of one check (None: nothing yet), and how many results in a row have contradicted it."""

    up: bool | None = None
    against: int = 0


def judge(history: History, healthy: bool, rule: Rule) -> History:
    """The history after one more result.

    The first result decides at once, because a service that is there must not wait for `rise` rounds after each start
    of nerve; with `strict_rise` it does, while a first failure decides at once all the same.
    """
    if history.up is None and (not healthy or not rule.strict_rise):
        return History(healthy)
    if healthy == history.up:
        return History(history.up)
    against = history.against + 1
    if against >= (rule.rise if healthy else rule.fall):
        return History(healthy)
    return History(history.up, against)


def all_up(histories: Iterable[History]) -> bool | None:
    """The service is up when each check is, down when one is down; None: not known yet. No check at all: up."""
    believed = {history.up for history in histories}
    if False in believed:
        return False
    return None if None in believed else True
