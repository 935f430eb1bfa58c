"""The method `etcd`: the keys below a path of an etcd cluster, version 3."""

from __future__ import annotations

from dockstack.errors import ConfigurationError, Problem
from dockstack.events import Emit
from dockstack.registry import Locator, Tls
from dockstack.registry.url import fold, parse_hosts
from dockstack.settings.discovery import EtcdDiscovery
from dockstack.synapse.watchers import Sessions, Watcher
from dockstack.synapse.watchers._registry import RegistryWatcher, config_path, decoder


def locator(settings: EtcdDiscovery) -> Locator:
    """The cluster; services that name the same hosts in another order share its connections.

    Raises ConfigurationError where hosts or auth cannot be read.
    """
    where = f"discovery of {settings.path}"
    try:
        addresses, beside = parse_hosts(settings.hosts, int(settings.port))
    except ValueError as error:
        raise ConfigurationError(Problem(f"{where}: hosts", str(error))) from error
    if beside:
        raise ConfigurationError(Problem(f"{where}: hosts", f"{beside} is no host: write the path into `path`"))
    user, colon, password = (settings.auth or "").partition(":")
    if settings.auth is not None and not (user and colon):
        raise ConfigurationError(Problem(f"{where}: auth", "write it as USER:PASSWORD"))
    return Locator(
        scheme="etcd",
        hosts=tuple(sorted(set(addresses))),
        username=user if settings.auth else None,
        password=password if settings.auth else None,
        tls=None if settings.tls is None else Tls(**settings.tls.model_dump()),
    )


def build(settings: EtcdDiscovery, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher of a path. Raises ConfigurationError where hosts or auth cannot be read."""
    path = fold(settings.path)
    return RegistryWatcher(
        locator=locator(settings),
        path=path,
        decoder=decoder(settings.decode),
        config_path=config_path(settings, path),
        pause=0.0,
        sessions=sessions,
        emit=emit,
    )
