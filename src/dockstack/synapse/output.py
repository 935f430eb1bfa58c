"""The port of the outputs: HAProxy, files, and those of plug-ins."""

from __future__ import annotations

from typing import Protocol

from dockstack.runtime.latest import Latest
from dockstack.synapse.haproxy.document import Picture


class Output(Protocol):
    """What consumes the pictures, and how it is doing."""

    @property
    def ready(self) -> bool:
        """Whether a picture has been carried out in full."""

    @property
    def serving(self) -> bool:
        """Whether it does its work, as far as is known."""

    @property
    def trouble(self) -> tuple[str, ...]:
        """Why not all that is wanted is carried out, in sentences."""

    async def run(self, pictures: Latest[Picture]) -> None:
        """Makes the outside equal to each newest picture, for ever; touches nothing before the first."""

    async def close(self) -> None:
        """Ends what is to end with the daemon."""
