"""Several watchers of one service become one: which of them count, and what they come to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dockstack.documents import parse
from dockstack.errors import ConfigurationError
from dockstack.model import Entry, Instance
from dockstack.settings.multi import (
    PRIMARY,
    AnyResolver,
    BaseResolver,
    S3ToggleResolver,
    SequentialResolver,
    UnionResolver,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What one watcher has come to: whether its source has answered, its entry, and the last configuration there."""

    up: bool
    entry: Entry
    config: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the watchers are together. `watcher` is the one that was chosen, where one is."""

    entry: Entry
    config: str = ""
    watcher: str | None = None


def resolve(resolver: AnyResolver | None, watchers: Mapping[str, Found], toggled: str = PRIMARY) -> Resolved:
    """The one that these watchers are together; without a resolver there is one only.

    An instance that several watchers have is one instance: the last of them describes it. `toggled` is the watcher that
    is used where a file of weights decides.
    """
    match resolver:
        case None:
            (only,) = watchers.values()
            return Resolved(only.entry, only.config)
        case SequentialResolver():
            name = _first(resolver.sequential_order, watchers)
            return Resolved(watchers[name].entry, _first_config(resolver.sequential_order, watchers), name)
        case UnionResolver():
            every = tuple(watchers.values())
            configs = (one.config for one in every if one.config)
            return Resolved(_together([one.entry for one in every]), next(configs, ""))
        case S3ToggleResolver():
            return Resolved(watchers[toggled].entry, watchers[toggled].config, toggled)
        case BaseResolver():
            return Resolved(Entry(()))


def _first(order: Sequence[str], watchers: Mapping[str, Found]) -> str:
    serving = (name for name in order if watchers[name].up and watchers[name].entry.instances)
    return next(serving, order[0])


def _first_config(order: Sequence[str], watchers: Mapping[str, Found]) -> str:
    """That of the first watcher that is up, whoever serves: a port does not move when instances leave."""
    return watchers[next((name for name in order if watchers[name].up), order[0])].config


def _together(entries: Sequence[Entry]) -> Entry:
    found: dict[tuple[str, str, str], Instance] = {}
    for entry in entries:
        for one in entry.instances:
            found[one.host, str(one.port), one.name or ""] = one
    return Entry(tuple(found.values()))


LARGEST = 65_536
"""Bytes that a file of weights may have."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What a file of weights has come to: the watcher that was drawn, and the weights of which it was drawn.

    `fault`: why the newest content has changed nothing, in one word (`parse_error`, `invalid_schema`, `zero_sum`);
    `problem`: the same as a sentence. Both are empty where it is fine.
    """

    watcher: str | None = None
    weights: Mapping[str, int] | None = None
    fault: str = ""
    problem: str = ""


def draw(before: Draw, content: bytes, uniform: Callable[[], float]) -> Draw:
    """A watcher by the weights in the content, a YAML map from watchers to whole numbers.

    The same weights as before are no reason to draw again, and a bad content keeps what was drawn. `uniform` returns
    numbers from 0 to 1 (1 excluded).
    """
    if len(content) > LARGEST:
        return _kept(before, "parse_error", f"the file of weights has more than {LARGEST} bytes")
    try:
        weights = parse(content.decode("utf-8-sig"), "the file of weights", {}).data
    except (ConfigurationError, UnicodeDecodeError) as error:
        return _kept(before, "parse_error", " ".join(str(error).split()))
    wrong = [name for name, weight in weights.items() if type(weight) is not int or weight < 0]
    if wrong:
        return _kept(before, "invalid_schema", f"the weight of {wrong[0]} is no whole number from 0 on")
    if not sum(weights.values()):
        return _kept(before, "zero_sum", "the weights in the file come to 0")
    if weights == before.weights:
        return replace(before, fault="", problem="")
    return Draw(_drawn(weights, uniform()), weights)


def _kept(before: Draw, fault: str, problem: str) -> Draw:
    return replace(before, fault=fault, problem=problem)


def _drawn(weights: Mapping[str, int], number: float) -> str:
    total = sum(weights.values())
    left = int(number * 2**53) * total >> 53  # a product of floats may be rounded up, or be too large for one
    for name, weight in weights.items():
        if left < weight:
            return name
        left -= weight
    raise AssertionError("a number below the sum of the weights is within one of them")


def adopted(drawn: Draw, present: str, watchers: Mapping[str, object]) -> tuple[str, tuple[str, ...]]:
    """The watcher that a service uses after a draw when it uses `present` now, and what is wrong, as sentences."""
    problems = [f"{drawn.problem}; the watcher stays as it is"] if drawn.problem else []
    if drawn.watcher is None or drawn.watcher in watchers:
        return drawn.watcher or present, tuple(problems)
    problems.append(f"the watcher {drawn.watcher} was drawn, and there is none of this name; {present} stays")
    return present, tuple(problems)
