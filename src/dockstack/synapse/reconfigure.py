"""SIGHUP: the settings are read again and taken over while all goes on; with a fault in them the old ones stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from dockstack import events
from dockstack.errors import ConfigurationError, Problem
from dockstack.events import Emit, Warn
from dockstack.runtime.latest import Latest
from dockstack.settings.synapse import HaproxySettings, SynapseSettings
from dockstack.synapse.haproxy.document import Layout, Picture
from dockstack.synapse.snapshot import SnapshotFile, fingerprints
from dockstack.synapse.world import World

FIXED = (
    "do_writes",
    "do_reloads",
    "do_socket",
    "do_checks",
    "check_command",
    "candidate_config_file_path",
    "config_file_path",
    "socket_file_path",
    "reload_command",
    "restart_interval",
    "restart_jitter",
    "state_file_path",
    "state_file_ttl",
)
"""Keys of the section `haproxy` that are looked at when synapse starts, and not again."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """Takes other settings over. `settings` are those of the start, `read` gives the newest ones, and `layout` makes
    the sections of HAProxy's file of their top.
    """

    settings: SynapseSettings
    read: Callable[[], SynapseSettings]
    layout: Callable[[HaproxySettings | None], Layout]
    world: World
    keeper: SnapshotFile
    emit: Emit

    async def run(self, hangup: asyncio.Event, pictures: Latest[Picture], grace: float) -> None:
        """Reads the settings again whenever `hangup` is set, for ever; not before the first picture.

        `grace`: seconds that the watchers of new services are waited for.
        """
        await pictures.after(0)
        while True:
            await hangup.wait()
            hangup.clear()
            try:
                await self._turn(await asyncio.to_thread(self.read), grace)
            except ConfigurationError as error:
                self.emit(Warn(f"the configuration was not reloaded, the old one stays: {error}"))

    async def _turn(self, fresh: SynapseSettings, grace: float) -> None:
        """Raises ConfigurationError, and nothing has changed then."""
        if (fresh.haproxy is None) != (self.settings.haproxy is None):
            what = "it came" if self.settings.haproxy is None else "it is gone"
            raise ConfigurationError(Problem("haproxy", f"{what}: only a restart of synapse changes which outputs are"))
        fixed = _fixed(self.settings, fresh)
        layout = self.layout(fresh.haproxy)
        warnings = () if fresh.haproxy is None else layout.frame(fresh.services).warnings
        change = await self.world.prepared(layout, fresh, grace)
        if fixed:
            warnings = (*warnings, f"only a restart of synapse changes {', '.join(fixed)}")
        for warning in warnings:
            self.emit(Warn(warning))
        self.keeper.change(fingerprints(fresh))
        self.world.take(change)
        self.emit(events.Reconfigured())


def _fixed(before: SynapseSettings, now: SynapseSettings) -> list[str]:
    keys = [key for key in FIXED if getattr(before.haproxy, key, None) != getattr(now.haproxy, key, None)]
    return [
        *(f"haproxy.{key}" for key in keys),
        *(name for name in ("file_output", "statsd") if getattr(before, name) != getattr(now, name)),
    ] + [
        name
        for name in sorted({*before.sections, *now.sections})
        if before.sections.get(name) != now.sections.get(name)
    ]
