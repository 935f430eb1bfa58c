"""The servers that services had: SmartStack's state file as data. Pure: the time is an argument.

A server that has left is known, and listed as disabled, for some time. It keeps its id, so that one that comes back
needs no reload. In the file a service is a map: server name → timestamp (whole seconds since 1970, when it was last
there), id and the instance's own keys; and one more key with the service's haproxy section.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dockstack.model import Entry, Instance
from dockstack.registry.codec import NerveDecoder
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.fields import described
from dockstack.synapse.haproxy.place import server_name

CONFIG = "watcher_config_for_generator"
"""The key of a service's haproxy section; no server has this name, as each ends with a port."""

_SECTION: Mapping[str, Any] = {
    "server_options": "",
    "server_port_override": None,
    "backend": [],
    "frontend": [],
    "listen": [],
}
Content = Mapping[str, Mapping[str, Any]]
"""By service and server, or `CONFIG`, what JSON can have."""

_IDS = range(1, 2**31)
_LATEST = 2**53  # seconds; beyond, a float has no whole ones


@dataclass(slots=True)
class _Server:
    """`fields` are the instance's keys as the file has them; `seen` is when it was last there."""

    instance: Instance
    fields: Mapping[str, Any]
    seen: float
    number: int | None


@dataclass(slots=True)
class _Service:
    servers: dict[str, _Server] = field(default_factory=dict)
    present: frozenset[str] = frozenset()
    own: SynapseService | None = None
    section: Any = None
    ids: Mapping[str, int] = field(default_factory=dict)


class Past:
    """What is in the state file. `ttl`: seconds that a server which left is known."""

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._services: dict[str, _Service] = {}

    def load(self, text: str) -> tuple[str, ...]:
        """Takes over a file; what it holds is gone until it is seen. Returns a sentence for each thing not taken.

        A text that is no state file is an empty one, as in SmartStack.
        """
        try:
            whole = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            return (f"it is no JSON: {error}",)
        if not isinstance(whole, dict):
            return () if whole is None else ("it is no map of services",)
        problems: list[str] = []
        for name, servers in whole.items():
            if not isinstance(servers, dict):
                problems.append(f"service {name}: it is no map of servers")
                continue
            service = self._services[name] = _Service(section=servers.get(CONFIG))
            for key, body in servers.items():
                if key == CONFIG:
                    continue
                try:
                    service.servers[key] = _server(key, body)
                except ValueError as error:
                    problems.append(f"service {name}, server {key}: {error}")
        return tuple(problems)

    def ids(self, service: str) -> Mapping[str, int]:
        """The ids of a service's servers, by name; before the first `expire` also of those that left too long ago.

        Of several with one number, the one that was seen last has it.
        """
        servers = self._services.get(service, _Service()).servers
        by_age = sorted(servers.items(), key=lambda item: item[1].seen)
        owners = {one.number: name for name, one in by_age if one.number is not None}
        return {name: number for number, name in owners.items()}

    def newest(self, now: float) -> Mapping[str, Entry]:
        """By service, the servers that were there when the file was written: those with its newest timestamp.

        None, where that is too long ago.
        """
        every = (one.seen for service in self._services.values() for one in service.servers.values())
        latest = max(every, default=0.0)
        found = {
            name: tuple(
                one.instance for one in service.servers.values() if one.seen == latest and self._is_known(one, now)
            )
            for name, service in self._services.items()
        }
        return {name: Entry(instances) for name, instances in found.items() if instances}

    def see(self, name: str, own: SynapseService, entry: Entry, ids: Mapping[str, int], now: float) -> None:
        """A service has these instances now; `ids` are those of its servers, read when the file is written."""
        service = self._services.setdefault(name, _Service())
        service.own, service.ids = own, ids
        before, present = service.present, {server_name(one): one for one in entry.instances}
        for gone in before - present.keys():
            service.servers[gone].seen = now
        for (key, instance), fields in zip(present.items(), described(own, present.values()), strict=True):
            known = service.servers.get(key)
            if known is None:
                service.servers[key] = _Server(instance, fields, now, ids.get(key))
            else:
                known.instance, known.fields = instance, fields
        service.present = frozenset(present)

    def forget(self, name: str, now: float) -> None:
        """A service is no more: all its servers have left, and it is known as long as one of them is."""
        service = self._services.get(name)
        if service is None or service.own is None:
            return
        for key in service.present:
            service.servers[key].seen = now
        service.section, service.own, service.present = _section(service.own), None, frozenset()

    def departed(self, name: str, now: float) -> tuple[Instance, ...]:
        """The instances that have left a service and are still known."""
        service = self._services.get(name)
        if service is None:
            return ()
        gone = (one for key, one in service.servers.items() if key not in service.present)
        return tuple(one.instance for one in gone if self._is_known(one, now))

    def expire(self, now: float) -> frozenset[str]:
        """Forgets those that left too long ago; returns the services that had some."""
        hit = set()
        for name, service in list(self._services.items()):
            old = [
                key
                for key, one in service.servers.items()
                if key not in service.present and not self._is_known(one, now)
            ]
            for key in old:
                del service.servers[key]
                hit.add(name)
            if service.own is None and not service.servers:
                del self._services[name]
        return frozenset(hit)

    def content(self, now: float) -> Content:
        """What the file is to hold. It changes no more, so that it can be encoded in a thread."""
        whole: dict[str, dict[str, Any]] = {}
        for name, service in self._services.items():
            body: dict[str, Any] = {}
            for key, one in service.servers.items():
                seen = now if key in service.present else one.seen
                number = service.ids.get(key, one.number)
                known = {} if number is None else {"haproxy_server_id": number}
                rest = {at: value for at, value in one.fields.items() if at != "haproxy_server_id"}
                body[key] = {"timestamp": int(seen), **known, **rest}
            if service.own is not None:
                body[CONFIG] = _section(service.own)
            elif service.section is not None:
                body[CONFIG] = service.section
            whole[name] = body
        return whole

    def _is_known(self, server: _Server, now: float) -> bool:
        return abs(now - server.seen) <= self._ttl


def encode(content: Content) -> bytes:
    """The file as SmartStack writes it. With many services that takes its time."""
    # Half of a surrogate pair, which is no UTF-8, becomes the escape that JSON has for it.
    return json.dumps(content, indent=2, ensure_ascii=False).encode(errors="backslashreplace")


def _server(key: str, body: Any) -> _Server:
    """Raises ValueError with the reason when this is no server."""
    if not isinstance(body, dict):
        raise ValueError("it is no map")
    seen, number, registered = body.get("timestamp", 0), body.get("haproxy_server_id"), body.get("id")
    if isinstance(seen, bool) or not isinstance(seen, int | float) or not abs(seen) <= _LATEST:
        raise ValueError(f"the timestamp {str(seen)[:80]} is no number of seconds")
    instance = NerveDecoder().from_fields(body, registered if type(registered) is int else None)
    if server_name(instance) != key:
        raise ValueError("its name is not that of its host and port")
    fields = {at: value for at, value in body.items() if at not in ("timestamp", "haproxy_server_id")}
    return _Server(instance, fields, seen, number if type(number) is int and number in _IDS else None)


def _section(own: SynapseService) -> Mapping[str, Any]:
    return {**_SECTION, **own.haproxy.model_dump(mode="json", exclude_unset=True)}


def merged(ids: Mapping[str, int], over: Mapping[str, int]) -> Mapping[str, int]:
    """Ids by server name; those of `over` win, also where another server has the number."""
    taken = frozenset(over.values())
    return {**{name: number for name, number in ids.items() if number not in taken}, **over}
