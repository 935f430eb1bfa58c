"""The synapse file: from plain data to settings, or to everything that is wrong, also between its parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dockstack.documents import Document, Steps
from dockstack.errors import ConfigurationError, Problem
from dockstack.model import Address
from dockstack.registry.url import parse_hosts
from dockstack.settings.common import STATS_SECTION
from dockstack.settings.copies import spread
from dockstack.settings.discovery import (
    DnsDiscovery,
    DnsSource,
    Ec2tagDiscovery,
    FileDiscovery,
    OneDiscovery,
    ZookeeperSource,
)
from dockstack.settings.loading import Loaded, Offered, clashing, nerve, validated, with_service_files
from dockstack.settings.multi import PRIMARY, DiscoveryMulti, MultiDiscovery, S3ToggleResolver, SequentialResolver
from dockstack.settings.synapse import HaproxySettings, ServiceHaproxy, SynapseService, SynapseSettings
from dockstack.settings.template import fault as template_fault

__all__ = ["Loaded", "bind_of", "nerve", "synapse", "unfit", "with_service_files"]

_ZOOKEEPER = 2181
_DNS = 53
_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_WHOLE_ADDRESS = re.compile(r".*[/@].*|[^:]*:[0-9]+|\[.*\]:[0-9]+")
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
_ALIASES = {"localhost": "127.0.0.1", "*": "0.0.0.0", "": "0.0.0.0", "[::1]": "::1", "[::]": "::"}


def synapse(
    document: Document, unknown_keys_are_warnings: bool = False, offered: Offered | None = None
) -> Loaded[SynapseSettings]:
    """The synapse file, each service as often as it is run; raises ConfigurationError with all problems, those between
    its parts included.

    `offered` tells of a group (`watchers`, `outputs`) and a name whether somebody else's plug-in is installed.
    """
    loaded = validated(SynapseSettings, document, unknown_keys_are_warnings, offered)
    found = tuple(_contradictions(loaded.settings, document))
    if found:
        raise ConfigurationError(*found)
    as_run = loaded.settings.model_copy(update={"services": spread(loaded.settings.services)})
    return Loaded(as_run, (*loaded.warnings, *_doubts(loaded.settings, document)))


def _contradictions(settings: SynapseSettings, document: Document) -> Iterator[Problem]:
    yield from _no_maps(settings.sections, (), document)
    if settings.haproxy is None and settings.file_output is None and not settings.sections:
        yield Problem(document.where(()), "there is no output: give a `haproxy` or a `file_output` section")
    if settings.haproxy is not None:
        yield from _incomplete(settings.haproxy, document)
    yield from clashing(settings.services, document)
    for name, service in settings.services.items():
        yield from _service(name, service, settings.haproxy, document)
    if settings.haproxy is not None:
        yield from _doubled(settings.haproxy, settings.services, document)


def _no_maps(sections: Mapping[str, object], own: Steps, document: Document) -> Iterator[Problem]:
    for name, section in sections.items():
        if section is not None and not isinstance(section, dict):
            yield Problem(document.where((*own, name)), "must be a map: it is a section of the output of this name")


def unfit(own: ServiceHaproxy, top: HaproxySettings | None) -> Iterator[tuple[str, str]]:
    """What in a service's section could not be served beside the top one: the key, and why, as a sentence."""
    wrong = template_fault(own.server_options or "")
    if wrong is not None:
        yield "server_options", wrong
    whole = own.bind_address or (top and _WHOLE_ADDRESS.fullmatch(top.bind_address))
    if own.listens and own.port is None and not whole:
        yield "port", "is null, so bind_address must be the whole address"


def _service(name: str, service: SynapseService, top: HaproxySettings | None, document: Document) -> Iterator[Problem]:
    own: Steps = ("services", name)
    if not _NAME.fullmatch(name):
        yield Problem(document.where(own), "a service's name is made of letters, digits and _ . : -")
    for key, what in unfit(service.haproxy, top):
        yield Problem(document.where((*own, "haproxy", key)), what)
    for index, server in enumerate(service.default_servers):
        steps = (*own, "default_servers", index, "haproxy_server_options")
        yield from _template(server.haproxy_server_options, document, steps)
    yield from _no_maps(service.sections, own, document)
    for place, discovery in service.sources():
        yield from _discovery(discovery, (*own, *place), document)
    yield from _portless(service, own, document)
    yield from _order(service, own, document)


def _discovery(discovery: OneDiscovery, steps: Steps, document: Document) -> Iterator[Problem]:
    if isinstance(discovery, ZookeeperSource):
        try:
            parse_hosts(discovery.hosts, _ZOOKEEPER)
        except ValueError as error:
            yield Problem(document.where((*steps, "hosts")), str(error))
    if isinstance(discovery, DnsSource) and discovery.nameserver:
        try:
            _, chroot = parse_hosts(discovery.nameserver, _DNS)
        except ValueError as error:
            yield Problem(document.where((*steps, "nameserver")), str(error))
        else:
            if chroot:
                yield Problem(document.where((*steps, "nameserver")), f"{chroot!r} cannot stand behind a host")
    if isinstance(discovery, ZookeeperSource | FileDiscovery) and not discovery.path.startswith("/"):
        yield Problem(document.where((*steps, "path")), f"{discovery.path!r} does not begin with a slash")


def _portless(service: SynapseService, own: Steps, document: Document) -> Iterator[Problem]:
    """What finds hosts without their ports, and nothing says which port it is."""
    if service.backend_port_override is not None or service.haproxy.server_port_override is not None:
        return
    for place, discovery in service.sources():
        if isinstance(discovery, DnsDiscovery):
            yield from _without_a_port(discovery, (*own, *place), document)
    methods = [one.method for _, one in service.sources() if isinstance(one, Ec2tagDiscovery)]
    if methods:
        what = f"is missing: {methods[0]} finds hosts, and not the port on which they serve"
        yield Problem(document.where((*own, "backend_port_override")), what)


def _without_a_port(discovery: DnsDiscovery, steps: Steps, document: Document) -> Iterator[Problem]:
    for index, server in enumerate(discovery.servers):
        if server.port is None and not server.has_services:
            what = "is missing: only names such as _http._tcp.example.com have ports in DNS"
            yield Problem(document.where((*steps, "servers", index, "port")), what)


def _order(service: SynapseService, own: Steps, document: Document) -> Iterator[Problem]:
    """What is wrong with several watchers of one service, between them."""
    if service.discovery_multi is not None and isinstance(service.discovery, MultiDiscovery):
        what = f"must be one source beside discovery_multi, where it is the watcher {PRIMARY}; not a multi"
        yield Problem(document.where((*own, "discovery", "method")), what)
        return
    resolver = service.resolver
    section = "discovery" if service.discovery_multi is None else "discovery_multi"
    if isinstance(resolver, S3ToggleResolver) and PRIMARY not in service.watchers:
        where = document.where((*own, section, "resolver"))
        yield Problem(where, f"s3_toggle begins with the watcher {PRIMARY}, and there is none of this name")
    if not isinstance(resolver, SequentialResolver):
        return
    names, order = service.watchers, resolver.sequential_order
    faults = [f"there is no watcher {one!r}" for one in dict.fromkeys(order) if one not in names]
    faults += [f"the watcher {one!r} is missing" for one in names if one not in order]
    faults += [f"the watcher {one!r} stands in it twice" for one in dict.fromkeys(order) if order.count(one) > 1]
    if faults:
        where = document.where((*own, section, "resolver", "sequential_order"))
        known = ", ".join(names)
        yield Problem(where, f"must name every watcher once ({known}): {'; '.join(faults)}")


def _doubled(haproxy: HaproxySettings, services: Mapping[str, SynapseService], document: Document) -> Iterator[Problem]:
    """Services on one address: HAProxy would take both, and each connection would reach one of them by chance."""
    binds: dict[str, tuple[str, str]] = {}
    for name, service in services.items():
        bind = bind_of(haproxy, service.haproxy)
        if bind is None:
            continue
        first, _ = binds.setdefault(_same(bind), (name, bind))
        if first != name:
            where = document.where(("services", name, "haproxy", "port"))
            yield Problem(where, f"{name} would bind {bind}, as {first} does; give one of them another port")
    yield from _hidden(haproxy, binds, document)


def _same(bind: str) -> str:
    """One text for all ways to write an address."""
    host, colon, port = bind.rpartition(":")
    return f"{_ALIASES.get(host.lower(), host)}:{port}" if colon and port.isdigit() else bind


def _doubts(settings: SynapseSettings, document: Document) -> Iterator[Problem]:
    for name, service in settings.services.items():
        yield from _without_effect(service, ("services", name), document)
        if service.haproxy.use_nerve_weights:
            where = document.where(("services", name, "haproxy", "use_nerve_weights"))
            yield Problem(where, "has no effect in a service; write it in the top haproxy section")


def _without_effect(service: SynapseService, own: Steps, document: Document) -> Iterator[Problem]:
    """What several watchers leave without effect, as in SmartStack."""
    many = service.discovery_multi
    if many is not None and PRIMARY in many.watchers:
        where = document.where((*own, "discovery_multi", "watchers", PRIMARY))
        yield Problem(where, f"is ignored: the watcher {PRIMARY} is the service's `discovery`")
    for section in (service.discovery, many):
        if isinstance(section, MultiDiscovery | DiscoveryMulti):
            name = "discovery" if section is service.discovery else "discovery_multi"
            for key in sorted({"label_filters", "label_filter", "generator_config_path"} & section.model_fields_set):
                yield Problem(document.where((*own, name, key)), "has no effect here; write it in each watcher")


def _hidden(haproxy: HaproxySettings, binds: Mapping[str, tuple[str, str]], document: Document) -> Iterator[Problem]:
    """The statistics page on a port of a service: HAProxy would take both, and one would hide the other."""
    pages = [line.split()[1] for line in haproxy.extra_sections.get(STATS_SECTION, ()) if line.startswith("bind ")]
    for page in map(_same, pages):
        host, _, port = page.rpartition(":")
        for same, (name, bind) in binds.items():
            other, _, taken = same.rpartition(":")
            if port == taken and (host == other or {host, other} & _EVERY_ADDRESS):
                where = document.where(("services", name, "haproxy"))
                yield Problem(where, f"{name} binds {bind}, where the statistics page is: move it, or --stats off")


def _incomplete(haproxy: HaproxySettings, document: Document) -> Iterator[Problem]:
    where = document.where(("haproxy",))
    if haproxy.do_writes and not haproxy.config_file_path:
        yield Problem(where, "config_file_path is missing: name the file to write, or set do_writes to false")
    if haproxy.do_socket and not haproxy.socket_file_path:
        yield Problem(where, "socket_file_path is missing: name HAProxy's stats socket, or set do_socket to false")
    if haproxy.do_checks and haproxy.check_command is None and not haproxy.do_writes:
        yield Problem(where, "do_checks needs do_writes: there is no file to check")


def _template(text: str | None, document: Document, steps: Steps) -> Iterator[Problem]:
    wrong = template_fault(text) if text else None
    if wrong is not None:
        yield Problem(document.where(steps), wrong)


def bind_of(haproxy: HaproxySettings, service: ServiceHaproxy) -> str | None:
    """What a service's frontend binds, an IPv6 address in brackets; None for a service without a frontend."""
    if service.disabled or not service.listens:
        return None
    address = service.bind_address or haproxy.bind_address
    return address if service.port is None else str(Address(address.strip("[]"), int(service.port)))
