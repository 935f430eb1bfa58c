"""The method `zookeeper_dns_poll`: as `zookeeper_dns`, with the path read again and again, without watches."""

from __future__ import annotations

from dockstack.events import Emit
from dockstack.settings.discovery import ZookeeperDnsPollDiscovery
from dockstack.synapse.watchers import Sessions, Watcher, zookeeper_poll
from dockstack.synapse.watchers._named import named


def build(settings: ZookeeperDnsPollDiscovery, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher of a path. Raises ConfigurationError where hosts, auth or nameserver cannot be read."""
    return named(zookeeper_poll.build(settings, sessions, emit), settings, emit)
