"""The method `file`: the files below a path of a directory on this host."""

from __future__ import annotations

from pathlib import Path

from dockstack.events import Emit
from dockstack.registry import Locator
from dockstack.registry.url import fold
from dockstack.settings.discovery import FileDiscovery
from dockstack.synapse.watchers import Sessions, Watcher
from dockstack.synapse.watchers._registry import RegistryWatcher, config_path, decoder


def build(settings: FileDiscovery, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher of a path."""
    path = fold(settings.path)
    return RegistryWatcher(
        locator=Locator(scheme="file", root=str(Path(settings.directory).absolute())),
        path=path,
        decoder=decoder(settings.decode),
        config_path=config_path(settings, path),
        pause=0.0,
        sessions=sessions,
        emit=emit,
    )
