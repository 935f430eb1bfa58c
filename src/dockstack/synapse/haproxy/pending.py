"""The reload that is due: why, and when it may be. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dockstack.synapse.haproxy.model import Reason

REFUSED_AGAIN = 60.0
"""Seconds until a structure that was refused is tried again: a certificate may have come, a name may resolve."""

_FIRST_FAILURE = 1.0

_LOOK = 0.5
"""Seconds, at least, between two looks whether what was refused is still what is wanted."""


class Pending:
    """Reasons by service, and the limit of the rate: `interval` seconds between reloads, and up to `jitter` of it more.

    The first reload is due at once. `uniform` returns numbers from 0 to 1.
    """

    def __init__(self, interval: float, jitter: float, uniform: Callable[[], float]) -> None:
        self._interval = interval
        self._jitter = jitter
        self._uniform = uniform
        self._reasons: dict[str, tuple[Reason, ...]] = {}
        self._not_before = 0.0
        self._failures = 0
        self._refused: str | None = None
        self._refused_until = 0.0

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why a reload is due; empty: it is not."""
        return tuple(reason for each in self._reasons.values() for reason in each)

    def note(self, looked: Mapping[str, Sequence[Reason]]) -> None:
        """The reasons of those services that were looked at are these now; of no service: under ""."""
        for service, reasons in looked.items():
            if reasons:
                self._reasons[service] = tuple(dict.fromkeys(reasons))
            else:
                self._reasons.pop(service, None)

    def due_at(self) -> float | None:
        """When the reload may take place; None when there is no reason for one."""
        return self._not_before if self._reasons else None

    def postponed(self, mark: str, now: float) -> bool:
        """Whether this structure was refused a short while ago; asks again when that is over."""
        if mark != self._refused or now >= self._refused_until:
            return False
        self._not_before = max(self._not_before, min(self._refused_until, now + max(self._interval, _LOOK)))
        return True

    def succeeded(self, now: float) -> None:
        """A reload has taken place; every reason is to be found anew."""
        self._reasons.clear()
        self._failures = 0
        self._refused = None
        self._wait(now, self._interval)

    def refused(self, mark: str, now: float, surely: bool = True) -> None:
        """This structure cannot be loaded; another one can be tried at the usual rate.

        `surely` is false where its check was good and the worker that was to load it did not come up: that can be a
        chance, so the structure is tried again soon, and later each time.
        """
        self._refused = mark
        self._refused_until = now + (REFUSED_AGAIN if surely else self._next_pause())
        self._wait(now, self._interval)

    def failed(self, now: float) -> None:
        """The reload did not come about; the next try waits longer each time."""
        self._wait(now, max(self._interval, self._next_pause()))

    def _next_pause(self) -> float:
        self._failures += 1
        return min(REFUSED_AGAIN, _FIRST_FAILURE * 2.0 ** min(self._failures, 10))

    def _wait(self, now: float, pause: float) -> None:
        self._not_before = now + pause + self._interval * self._jitter * self._uniform()
