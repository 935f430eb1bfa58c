"""Where others reach a port of a container: published by its host, or at the container's own address. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dockstack.docker.containers import Container, Network, Published
from dockstack.model import Address

Where = Callable[[Container, int], Address]
"""The address under which others reach this TCP port of a container; raises ValueError with the reason where they do
not, as the end of a sentence that begins with the container."""

_OWN = re.compile(r"/containers/([0-9a-f]{64})/")
_USUAL_NETWORK = "bridge"


@dataclass(frozen=True, slots=True)
class AtHost:
    """Where the engine publishes the port, under the name or address `host`.

    Of several places that which is meant for the host's address, else IPv4 before IPv6, where `host` is not IPv6.
    """

    host: str

    def __call__(self, container: Container, port: int) -> Address:
        if container.network_mode == "host":
            return Address(self.host, port)
        places = sorted(_places(container, port), key=self._order)
        if not places:
            raise ValueError(_not_published(container, port))
        if not _is_loopback(self.host):
            beyond = [one for one in places if not _is_loopback(one.host_ip)]
            if not beyond:
                only = f"publishes port {port} on {places[0].host_ip} alone, which only its own host reaches"
                raise ValueError(f"{only}: publish it on another address, or on all with -p {port}")
            places = beyond
        return Address(self.host, places[0].host_port)

    def _order(self, one: Published) -> tuple[bool, bool, str, int]:
        six = ":" in self.host
        return one.host_ip != self.host, (":" in one.host_ip) != six, one.host_ip, one.host_port


@dataclass(frozen=True, slots=True)
class Inside:
    """The container's own address, on the network of that name, else on one of `shared` (None: on any): IPv4 before
    IPv6, and a network with a name of its own before Docker's usual one."""

    network: str | None = None
    shared: frozenset[str] | None = None

    def __call__(self, container: Container, port: int) -> Address:
        found = [one for one in container.networks if self._counts(one) and (one.ipv4 or one.ipv6)]
        if not found:
            there = _listed(one.name for one in container.networks if one.ipv4 or one.ipv6)
            raise ValueError(f"has no address on {self._meant()}; it has one on: {there}")
        best = min(found, key=lambda one: (one.name == _USUAL_NETWORK, not one.ipv4, one.name))
        return Address(best.ipv4 or best.ipv6, port)

    def _counts(self, network: Network) -> bool:
        if self.network is not None:
            return network.name == self.network
        return self.shared is None or network.name in self.shared

    def _meant(self) -> str:
        if self.network is not None:
            return f"the network {self.network}"
        return "any network" if self.shared is None else f"a network that it shares with nerve ({_listed(self.shared)})"


def advertise_fault(text: str) -> str | None:
    """What is wrong with the text of an `advertise`, or None."""
    kind, colon, network = text.partition(":")
    right = (kind == "docker" and (network or not colon)) or text == "host"
    return None if right else f"{text!r} is none of host, docker and docker:NETWORK"


def where(advertise: str, host: str | None, own: Container | None) -> Where:
    """What `advertise` (host, docker, docker:NETWORK) means on this host; `own` is nerve's container, if it is in one.

    With `host` the name or address of this host is needed.
    """
    kind, _, network = advertise.partition(":")
    if kind == "host":
        assert host is not None
        return AtHost(host)
    shared = None if own is None else frozenset(one.name for one in own.networks if one.ipv4 or one.ipv6)
    return Inside(network or None, shared or None)


def own_id(mountinfo: str) -> str | None:
    """From the text of /proc/self/mountinfo: the id of the container that the process is in, None outside of one.

    An engine mounts /etc/hostname and its neighbours from a directory of that name, whatever the host name is.
    """
    found = _OWN.search(mountinfo)
    return found[1] if found else None


def _places(container: Container, port: int) -> Iterator[Published]:
    return (one for one in container.published if (one.port, one.protocol) == (port, "tcp"))


def _not_published(container: Container, port: int) -> str:
    if not any(one.ipv4 or one.ipv6 for one in container.networks):
        return "is on no network"
    there = {f"{one.port}/{one.protocol} at {Address(one.host_ip, one.host_port)}" for one in container.published}
    return f"does not publish port {port}; published: {_listed(there)}; start it with -p {port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
