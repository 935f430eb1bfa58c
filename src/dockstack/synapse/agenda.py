"""Which names are to be asked for, when, and what is known of them: the plan of a watcher that follows DNS. Pure.

Time is an argument, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

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

    The pauses are cut by up to a quarter, by chance: `uniform` gives numbers from 0 to 1.
    """

    def __init__(self, interval: float, uniform: Callable[[], float]) -> None:
        self._interval = interval
        self._uniform = uniform
        self._members: Snapshot | None = None
        self._wanted: Mapping[Question, None] = {}
        self._answers: dict[Question, Answer] = {}
        self._due: dict[Question, float] = {}
        self._absent: dict[Question, float] = {}
        self._under_way: set[Question] = set()
        self._waits_since: float | None = None

    def take(self, members: Snapshot) -> None:
        """These are the members now; what is known of names that are no longer among them is forgotten."""
        self._members = members
        self._rethink()

    def begin(self, now: float, most: int) -> tuple[Question, ...]:
        """What is to be asked now, so that no more than `most` questions are under way."""
        ready = [one for one in self._wanted if one not in self._under_way and self._due.get(one, now) <= now]
        chosen = tuple(ready[: max(0, most - len(self._under_way))])
        self._under_way.update(chosen)
        return chosen

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
        if isinstance(answer, str):
            pause = AGAIN
            before = self._answers.get(question, Answer())
            self._answers[question] = Answer(before.values, answer)
        else:
            pause = max(FLOOR, answer.ttl)
            self._answers[question] = Answer(answer.values, exists=answer.exists)
        self._due[question] = now + max(SHORTEST, min(pause, self._interval) * (1 - self._uniform() / 4))
        if question.kind == "SRV":
            self._rethink()

    def wakes(self, now: float) -> float | None:
        """When the next question is due, or a set has waited long enough; None: only an answer brings news."""
        times = [self._due.get(one, now) for one in self._wanted if one not in self._under_way]
        if self._waits_since is not None:
            times.append(self._waits_since + HOLD)
        return min((at for at in times if at > now), default=None)

    def resolution(self, now: float) -> Resolution | None:
        """What the members come to; None: there are none yet, or the first answers about new names are waited for."""
        if self._members is None:
            return None
        if all(one in self._answers for one in self._wanted):
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now
        if self._waits_since is not None and now < self._waits_since + HOLD:
            return None
        return resolved(self._members, self._answers)

    def _rethink(self) -> None:
        assert self._members is not None
        self._wanted = dict.fromkeys(questions(self._members.instances, self._answers))
        self._answers = {one: answer for one, answer in self._answers.items() if one in self._wanted}
        self._due = {one: at for one, at in self._due.items() if one in self._wanted}
        self._absent = {one: at for one, at in self._absent.items() if one in self._wanted}
