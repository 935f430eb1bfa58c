"""What is asked of DNS for instances that are known by name, and what the answers come to. Pure.

An answer that failed is not an empty one: what a name had before stays, and the failure is a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal

from dockstack.model import NO_PORT, Instance
from dockstack.registry import Snapshot
from dockstack.registry.url import is_name

Kind = Literal["A", "AAAA", "SRV"]

HEAVIEST = 256
"""HAProxy's largest weight; those of SRV records go up to 65535."""

_ADDRESSES: tuple[Kind, ...] = ("A", "AAAA")


@dataclass(frozen=True, slots=True, order=True)
class Question:
    """The records of one type that a name has."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True, order=True)
class Service:
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Records:
    """What a nameserver has answered: addresses as text, or services; none is an answer, too. `ttl` in seconds.

    `exists`: whether there is such a name at all, with records of whatever type.
    """

    values: tuple[str | Service, ...]
    ttl: float
    exists: bool = True


NOWHERE = Records((), 0.0, exists=False)
"""The answer NXDOMAIN."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The last records that were read (None: none ever), and why the newest look at them failed, if it did.

    `exists`: as in the records.
    """

    values: tuple[str | Service, ...] | None = None
    fault: str | None = None
    exists: bool = True


Answers = Mapping[Question, Answer]
_NOTHING = Answer()


@dataclass(frozen=True, slots=True)
class Resolution:
    """The instances by address. `known` is false where there are names and DNS has told nothing about any of them."""

    snapshot: Snapshot
    known: bool


def questions(instances: Iterable[Instance], answers: Answers) -> tuple[Question, ...]:
    """All that must be asked for these instances, as far as the answers tell, each once."""
    asked: dict[Question, None] = {}
    for one in instances:
        for name in _targets(one, answers) if _has_services(one) else (one.host,):
            asked |= {Question(name, kind): None for kind in _ADDRESSES if is_name(name)}
        if _has_services(one):
            asked[Question(one.host, "SRV")] = None
    return tuple(asked)


def resolved(snapshot: Snapshot, answers: Answers) -> Resolution:
    """The instances with each address of their hosts, IPv4 first; the order of the answers does not matter."""
    found: list[Instance] = []
    known = not snapshot.instances
    for one in snapshot.instances:
        services = answers.get(Question(one.host, "SRV"), _NOTHING) if _has_services(one) else None
        if services is not None:
            each = tuple(_services(one, services, answers))
            heard = services.values is not None and all(_is_known(name, answers) for name in _targets(one, answers))
            known |= bool(each) or heard
        else:
            each = tuple(replace(one, host=address) for address in _addresses(one.host, answers))
            known |= bool(each) or _is_known(one.host, answers)
        found += each
    asked = questions(snapshot.instances, answers)
    problems = (*snapshot.problems, *_problems(dict.fromkeys(one.name for one in asked), answers))
    return Resolution(replace(snapshot, instances=tuple(found), problems=problems), known)


def _has_services(instance: Instance) -> bool:
    return instance.port == NO_PORT and instance.host.startswith("_")


def _records(name: str, answers: Answers) -> list[Service]:
    values = answers.get(Question(name, "SRV"), _NOTHING).values or ()
    return [one for one in values if isinstance(one, Service)]


def _targets(instance: Instance, answers: Answers) -> list[str]:
    return [one.target for one in _records(instance.host, answers) if one.target != "."]


def _addresses(host: str, answers: Answers) -> list[str]:
    if not is_name(host):
        return [host]
    answered = (answers.get(Question(host, kind), _NOTHING).values or () for kind in _ADDRESSES)
    return sorted(
        {one for values in answered for one in values if isinstance(one, str)},
        key=lambda address: (":" in address, ip_address(address).packed),
    )


def _is_known(host: str, answers: Answers) -> bool:
    """Whether all that can be known of a host is: there may be nothing."""
    return all(answers.get(Question(host, kind), _NOTHING).values is not None for kind in _ADDRESSES)


def _services(instance: Instance, answer: Answer, answers: Answers) -> Iterator[Instance]:
    records = [one for one in answer.values or () if isinstance(one, Service) and one.target != "."]
    first = min((one.priority for one in records), default=0)
    heaviest = max((one.weight for one in records), default=0)
    for one in sorted(records):
        # The others are for when no server of the first priority can be reached.
        options = instance.haproxy_server_options if one.priority == first else "backup"
        for address in _addresses(one.target, answers):
            yield replace(
                instance,
                host=address,
                port=one.port,
                weight=_weight(one.weight, heaviest),
                haproxy_server_options=options,
            )


def _weight(weight: int, heaviest: int) -> int | None:
    """The weight among HAProxy's, where 0 means no connections: in DNS it is the smallest share, or nothing at all."""
    if heaviest == 0:
        return None
    return max(1, weight if heaviest <= HEAVIEST else round(weight * HEAVIEST / heaviest))


def _problems(names: Iterable[str], answers: Answers) -> Iterator[str]:
    for name in names:
        asked = {kind: answer for kind in (*_ADDRESSES, "SRV") if (answer := answers.get(Question(name, kind)))}
        faults = {kind: one.fault for kind, one in asked.items() if one.fault is not None}
        some = any(one.values for one in asked.values())
        if faults and len(set(faults.values())) == 1 and len(faults) == len(asked):
            yield f"the name {name} cannot be looked up ({next(iter(faults.values()))}); {_meanwhile(some)}"
        else:
            for kind, fault in faults.items():
                yield (
                    f"the {kind} records of {name} cannot be looked up ({fault}); "
                    f"{_meanwhile(bool(asked[kind].values))}"
                )
            if _is_nowhere(asked.get("SRV", _NOTHING)):
                yield f"the name {name} says that there is no such service: nobody is served there"
            if asked and not faults and not some:
                has = f"has no {' and no '.join(asked)} records"
                is_there = any(one.exists for one in asked.values())
                yield f"the name {name} {has if is_there else 'does not exist (NXDOMAIN)'}: nobody is served there"


def _is_nowhere(services: Answer) -> bool:
    values = services.values or ()
    return bool(values) and all(isinstance(one, Service) and one.target == "." for one in values)


def _meanwhile(some: bool) -> str:
    return "what it had last stays in use" if some else "it is left out until it can"
