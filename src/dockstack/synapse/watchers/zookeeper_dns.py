"""The method `zookeeper_dns`: the nodes below a path of a ZooKeeper ensemble name hosts, DNS their addresses."""

from __future__ import annotations

from dockstack.events import Emit
from dockstack.settings.discovery import ZookeeperDnsDiscovery
from dockstack.synapse.watchers import Sessions, Watcher, zookeeper
from dockstack.synapse.watchers._named import named


def build(settings: ZookeeperDnsDiscovery, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher of a path. Raises ConfigurationError where hosts, auth or nameserver cannot be read."""
    return named(zookeeper.build(settings, sessions, emit), settings, emit)
