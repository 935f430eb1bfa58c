"""Which names are to be asked for, when, and what is known of them: the plan of a watcher that follows DNS. Pure.

Time is an argument, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping

from dockstack.registry import Snapshot
from dockstack.synapse.lookups import Answer, Question, Records, Resolution, questions, resolved

SHORTEST = 0.5
"""Seconds between two looks at a name at the least, whatever the settings say."""

FLOOR = 5.0
"""Seconds: a record that lives shorter is not looked at more often for it."""

AGAIN = 3.0
"""Seconds until a look that failed is tried again; the interval, if that is shorter."""

ABSENT = 30.0
"""Seconds that a name must be said not to exist, each time, until that is believed: a broken zone may be repaired."""

HOLD = 5.0
"""Seconds that a set waits at the most for the first answers about names that are new in it."""


class Agenda:
    """The names of the newest members. `interval`: seconds between two looks at one, or less if its records live less.

    The pauses are cut by up to a quarter, by chance: `uniform` gives numbers from 0 to 1. An answer that says the same
    as before costs nothing that grows with the number of names.
    """

    def __init__(self, interval: float, uniform: Callable[[], float]) -> None:
        self._interval = interval
        self._uniform = uniform
        self._members: Snapshot | None = None
        self._wanted: Mapping[Question, None] = {}
        self._answers: dict[Question, Answer] = {}
        self._due: dict[Question, float] = {}
        self._queue: list[tuple[float, Question]] = []  # a heap; what does not agree with `_due` is an old entry
        self._absent: dict[Question, float] = {}
        self._under_way: set[Question] = set()
        self._waits_since: float | None = None
        self._resolution: Resolution | None = None

    def take(self, members: Snapshot) -> None:
        """These are the members now; what is known of names that are no longer among them is forgotten."""
        self._members = members
        self._rethink()

    def begin(self, now: float, most: int) -> tuple[Question, ...]:
        """What is to be asked now, so that no more than `most` questions are under way."""
        chosen: list[Question] = []
        while len(self._under_way) < most and self._soonest() <= now:
            chosen.append(heapq.heappop(self._queue)[1])
            self._under_way.add(chosen[-1])
        return tuple(chosen)

    def learn(self, question: Question, answer: Records | str, now: float) -> None:
        """Takes an answer, or the reason why there is none: what was known stays then.

        That a name does not exist is such a reason at first, and an answer when it is said for `ABSENT` seconds.
        """
        self._under_way.discard(question)
        if question not in self._wanted:
            return
        if isinstance(answer, str) or answer.exists:
            self._absent.pop(question, None)
        elif now - self._absent.setdefault(question, now) < ABSENT:
            answer = "there is no such name: NXDOMAIN"
        before = self._answers.get(question)
        if isinstance(answer, str):
            pause = AGAIN
            known = Answer((before or Answer()).values, answer)
        else:
            pause = max(FLOOR, answer.ttl)
            known = Answer(answer.values, exists=answer.exists)
        self._due[question] = now + max(SHORTEST, min(pause, self._interval) * (1 - self._uniform() / 4))
        heapq.heappush(self._queue, (self._due[question], question))
        if known != before:
            self._answers[question] = known
            self._resolution = None
            if question.kind == "SRV":
                self._rethink()

    def wakes(self, now: float) -> float | None:
        """When the next question is due, or a set has waited long enough; None: only an answer brings news.

        What is due by now was to be begun, so it waits for an answer to another.
        """
        held = math.inf if self._waits_since is None else self._waits_since + HOLD
        return min((at for at in (self._soonest(), held) if now < at < math.inf), default=None)

    def resolution(self, now: float) -> Resolution | None:
        """What the members come to; None: there are none yet, or the first answers about new names are waited for."""
        if self._members is None or self._resolution is not None:
            return self._resolution
        if all(one in self._answers for one in self._wanted):
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now
        if self._waits_since is not None and now < self._waits_since + HOLD:
            return None
        self._resolution = resolved(self._members, self._answers)
        return self._resolution

    def _rethink(self) -> None:
        assert self._members is not None
        self._wanted = dict.fromkeys(questions(self._members.instances, self._answers))
        self._answers = {one: answer for one, answer in self._answers.items() if one in self._wanted}
        self._due = {one: at for one, at in self._due.items() if one in self._wanted}
        self._absent = {one: at for one, at in self._absent.items() if one in self._wanted}
        self._queue = [(self._due.get(one, -math.inf), one) for one in self._wanted]
        heapq.heapify(self._queue)
        self._resolution = None

    def _soonest(self) -> float:
        """When the first of those that are not under way is due, at the head of the queue; inf: there is none."""
        while self._queue:
            at, one = self._queue[0]
            if one not in self._under_way and at == self._due.get(one, -math.inf):
                return at
            heapq.heappop(self._queue)
        return math.inf
