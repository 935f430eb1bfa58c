"""The log: one of those who are told what happened."""

from __future__ import annotations

import logging

from dockstack.events import Event


def to_log(event: Event) -> None:
    """The subscriber that writes each event to the program's log."""
    logging.getLogger("dockstack").log(event.level, "%s", event)
