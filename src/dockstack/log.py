"""The log: one of those who are told what happened."""

from __future__ import annotations

import logging

from dockstack.events import Event, Recovered, Retrying
from dockstack.runtime.pace import LONGEST, Reminder


def to_log(event: Event) -> None:
    """The subscriber that writes each event to the program's log."""
    logging.getLogger("dockstack").log(event.level, "%s", event)


class Sparing(logging.Filter):
    """Of a failure that is tried again and again lets the first line through, then lines at growing distance.

    The line of its end closes the matter; a failure that nobody has heard of for long is a new one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._failing: dict[str, Reminder] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        event = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if isinstance(event, Recovered):
            return self._failing.pop(event.what, None) is not None
        if not isinstance(event, Retrying):
            return True
        known = self._failing.get(event.what)
        if known is None or record.created > known.next + LONGEST:
            known = self._failing[event.what] = Reminder()
        return known.due(record.created)
