"""The answer to "how are you": yes or no, and the sentences that say why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """Whether all is well, and lines for an operator: what is, or what is wrong and what to do."""

    ok: bool
    lines: tuple[str, ...]


def together(*reports: Report) -> Report:
    """All of them as one, which is well when each is."""
    return Report(all(one.ok for one in reports), tuple(line for one in reports for line in one.lines))
