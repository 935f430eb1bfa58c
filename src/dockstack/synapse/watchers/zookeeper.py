"""The method `zookeeper`: the nodes below a path of a ZooKeeper ensemble."""

from __future__ import annotations

from dockstack.errors import ConfigurationError, Problem
from dockstack.events import Emit, Warn
from dockstack.registry import Locator, Tls
from dockstack.registry.url import fold, parse_hosts
from dockstack.settings.discovery import ZookeeperSource
from dockstack.synapse.watchers import Sessions, Watcher
from dockstack.synapse.watchers._registry import RegistryWatcher, config_path, decoder

PORT = 2181
LONGEST_JITTER = 120
"""Seconds; a `discovery_jitter` that is not from 0 to this is ignored, as SmartStack does."""


def locator(settings: ZookeeperSource) -> Locator:
    """The ensemble; services that name the same hosts in another order share its session.

    Raises ConfigurationError where hosts or auth cannot be read.
    """
    where = f"discovery of {settings.path}"
    try:
        addresses, chroot = parse_hosts(settings.hosts, PORT)
    except ValueError as error:
        raise ConfigurationError(Problem(f"{where}: hosts", str(error))) from error
    user, colon, password = (settings.auth or "").partition(":")
    if settings.auth is not None and not (user and colon):
        raise ConfigurationError(Problem(f"{where}: auth", "write it as USER:PASSWORD"))
    return Locator(
        scheme="zookeeper",
        hosts=tuple(sorted(set(addresses))),
        root=chroot,
        username=user if settings.auth else None,
        password=password if settings.auth else None,
        tls=None if settings.tls is None else Tls(**settings.tls.model_dump()),
        session_timeout=settings.session_timeout,
    )


def build(settings: ZookeeperSource, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher of a path. Raises ConfigurationError where hosts or auth cannot be read."""
    path = fold(settings.path)
    pause = settings.discovery_jitter
    if not 0 <= pause <= LONGEST_JITTER:
        emit(Warn(f"{path}: discovery_jitter {pause:g} is not between 0 and {LONGEST_JITTER} seconds: it is ignored"))
        pause = 0.0
    return RegistryWatcher(
        locator=locator(settings),
        path=path,
        decoder=decoder(settings.decode),
        config_path=config_path(settings, path),
        pause=pause,
        sessions=sessions,
        emit=emit,
    )
