"""Which instances a service's clients can be given, out of what its watcher has seen. Pure.

A watcher that has not answered yet (None) and one that has found nothing are two things: the first keeps what there
is, the second falls back to the default servers, or to the previous instances if it may.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dockstack.model import NO_PORT, Entry, Instance
from dockstack.registry import Snapshot
from dockstack.registry.codec import compact
from dockstack.settings.discovery import Discovery, LabelFilter
from dockstack.settings.synapse import DefaultServer, SynapseService


@dataclass(frozen=True, slots=True)
class Selection:
    """A service's catalog entry, and a sentence for each thing that an operator should know about it."""

    entry: Entry
    problems: tuple[str, ...] = ()


def select(
    service: str,
    own: SynapseService,
    snapshot: Snapshot | None,
    previous: Entry | None,
    discovery: Discovery | None = None,
) -> Selection:
    """The entry of a service, or of one of its watchers: `discovery` is the watcher's, where there are several.

    `snapshot` is the newest one of its watcher, None before the first; `previous` is the entry that it had, None at
    the start. Emptiness is judged before the label filters: instances that exist but do not match give no servers.
    """
    problems = [] if snapshot is None else list(snapshot.problems)
    instances = _candidates(service, own, snapshot, previous, problems)
    filters = (own.discovery if discovery is None else discovery).filters
    if filters:
        instances = tuple(one for one in instances if _passes(one, filters))
    if own.leader_election:
        instances = _leader(service, instances, problems)
    return Selection(Entry(instances), tuple(problems))


def default_instances(servers: Iterable[DefaultServer]) -> tuple[Instance, ...]:
    """The default servers as instances, in their order."""
    return tuple(
        Instance(
            host=one.host,
            port=one.port,
            name=one.name,
            id=one.id,
            weight=one.weight,
            haproxy_server_options=one.haproxy_server_options,
            labels=None if one.labels is None else compact(one.labels),
        )
        for one in servers
    )


def _candidates(
    service: str, own: SynapseService, snapshot: Snapshot | None, previous: Entry | None, problems: list[str]
) -> tuple[Instance, ...]:
    defaults = default_instances(own.default_servers)
    if snapshot is None:
        return defaults if previous is None else previous.instances
    found = _newest(snapshot.instances)
    if own.keep_default_servers:
        found = (*found, *defaults)
    found = _distinct(_with_port(service, found, own, problems))
    if found or defaults:
        return found or defaults
    if previous is not None and previous.instances and own.use_previous_backends:
        count = len(previous.instances)
        kept = "the last one stays" if count == 1 else f"the last {count} stay"
        problems.append(f"service {service}: no instance is registered; {kept} in service")
        return previous.instances
    return ()


def port_override(own: SynapseService) -> int | str | None:
    """The port that all instances of a service get, whatever is registered."""
    return own.haproxy.server_port_override if own.backend_port_override is None else own.backend_port_override


def _with_port(
    service: str, instances: tuple[Instance, ...], own: SynapseService, problems: list[str]
) -> tuple[Instance, ...]:
    port = port_override(own)
    if port is not None:
        return tuple(replace(one, port=port) for one in instances)
    portless = [one.host for one in instances if one.port == NO_PORT]
    if portless:
        problems.append(f"service {service}: left out for want of a backend_port_override: {', '.join(portless)}")
    return tuple(one for one in instances if one.port != NO_PORT) if portless else instances


def _key(instance: Instance) -> tuple[str, str, str]:
    return instance.host, str(instance.port), instance.name or ""


def _newest(instances: Sequence[Instance]) -> tuple[Instance, ...]:
    """One instance for each host, port and name: the one with the highest id, which is the last that was registered."""
    best: dict[tuple[str, str, str], Instance] = {}
    for one in instances:
        other = best.get(_key(one))
        if other is None or (-1 if other.id is None else other.id) < (-1 if one.id is None else one.id):
            best[_key(one)] = one
    return tuple(instances) if len(best) == len(instances) else tuple(best.values())


def _distinct(instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
    """The first instance for each host, port and name."""
    first: dict[tuple[str, str, str], Instance] = {}
    for one in instances:
        first.setdefault(_key(one), one)
    return instances if len(first) == len(instances) else tuple(first.values())


def _passes(instance: Instance, filters: Iterable[LabelFilter]) -> bool:
    labels = json.loads(instance.labels) if instance.labels else {}
    return all(_holds(labels, one) for one in filters)


def _holds(labels: dict[str, Any], one: LabelFilter) -> bool:
    equal = one.label in labels and _equal(labels[one.label], one.value)
    return equal if one.condition == "equals" else not equal


def _equal(one: Any, other: Any) -> bool:
    """Equality that keeps a truth value and a number apart, as JSON and Ruby do."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _leader(service: str, instances: tuple[Instance, ...], problems: list[str]) -> tuple[Instance, ...]:
    numbered = [(one.id, index) for index, one in enumerate(instances) if one.id is not None]
    if not instances or len(numbered) < len(instances):
        why = "there is no instance" if not instances else "an instance has no id"
        problems.append(f"service {service}: no leader can be elected, because {why}; nobody is served")
        return ()
    return (instances[min(numbered)[1]],)
