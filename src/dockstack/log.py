"""The log: one of those who are told what happened."""

from __future__ import annotations

import logging
import os
import queue
import threading

from dockstack.events import Event, Recovered, Retrying
from dockstack.runtime.pace import LONGEST, Reminder

MOST_WAITING = 10_000
"""Lines that wait for whoever reads the log; further ones are lost, and counted."""


def to_log(event: Event) -> None:
    """The subscriber that writes each event to the program's log."""
    logging.getLogger("dockstack").log(event.level, "%s", event)


class Aside(logging.Handler):
    """Writes to a file descriptor in a thread of its own: a pipe that nobody reads holds up nothing but the log."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.put_nowait(f"{self.format(record)}\n")
        except queue.Full:
            self._lost += 1

    def finish(self, limit: float = 1.0) -> None:
        """Returns when all is written, or after `limit` seconds; nothing is written afterwards."""
        logging.getLogger().removeHandler(self)
        try:
            self._waiting.put(None, timeout=limit)
        except queue.Full:
            return
        self._thread.join(limit)

    def _write(self) -> None:
        while (text := self._waiting.get()) is not None:
            if self._lost and self._waiting.empty():
                lost, self._lost = self._lost, 0
                text += f"{lost} lines of the log were lost before: nobody read it\n"
            rest = text.encode(errors="replace")
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                continue  # nobody is there to be told


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
