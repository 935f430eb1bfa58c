"""When to act again, as numbers: growing jittered pauses after failures, fixed beats for checks. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_EARLY = 1e-6  # seconds

SHORTEST, LONGEST = 10.0, 600.0
"""Seconds between two words about one thing that goes on: at first, and after doubling each time."""


def pauses(cap: float, uniform: Callable[[], float], first: float = 0.05, eager: bool = True) -> Iterator[float]:
    """Seconds to wait before each retry, for ever: nothing (if `eager`), then about `first`, doubling up to `cap`.

    Each is jittered to 50-100 % of its size by `uniform`, which returns numbers from 0 to 1, so that a fleet that lost
    its registry together does not come back in step.
    """
    if eager:
        yield 0.0
    size = min(first, cap)
    while True:
        yield size * (0.5 + 0.5 * uniform())
        size = min(size * 2, cap)


def next_beat(start: float, interval: float, now: float) -> float:
    """The first moment after `now` on the grid `start + n * interval`: a slow round skips beats, it never drifts."""
    # A timer may fire, and numbers may be rounded, a little before the beat that it is for: 0.3 / 0.1 is less than 3.
    number = math.floor((now + _EARLY - start) / interval) + 1
    return start + number * interval


@dataclass(slots=True)
class Reminder:
    """When something that goes on is told: at once, and then at growing distance."""

    next: float = -math.inf
    gap: float = 0.0

    def due(self, now: float) -> bool:
        """Whether it is to be told now; it is taken as told then."""
        if now < self.next:
            return False
        self.gap = min(2 * self.gap, LONGEST) or SHORTEST
        self.next = now + self.gap
        return True
