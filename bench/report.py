"""Percentiles, tables, goals and the file of figures that every benchmark here ends with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted of a figure, what was found, and whether that is good enough."""

    what: str
    wanted: str
    found: str
    met: bool

    @staticmethod
    def at_most(what: str, limit: float, found: float, unit: str = "") -> Goal:
        """A figure that must not be larger."""
        return Goal(what, f"≤ {limit:g}{unit}", f"{rounded(found)}{unit}", found <= limit)


def rounded(value: float) -> str:
    """Three digits or the whole number, whichever says more."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


def milliseconds(what: str, seconds: Sequence[float]) -> tuple[str, ...]:
    """A row of a table whose head is `what` and the names of SHARES."""
    return (what, *(f"{percentile(seconds, share) * 1000:.2f}" for share in SHARES.values()))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A text table; the first column is left-aligned, the others right."""
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    return "\n".join([line(head), "  ".join("-" * w for w in widths), *map(line, rows)])


def goals(found: Iterable[Goal]) -> str:
    """The goals as a table."""
    rows = [(goal.what, goal.wanted, goal.found, "yes" if goal.met else "MISSED") for goal in found]
    return table(("goal", "wanted", "found", "met"), rows)


def machine(haproxy: str | Path) -> Mapping[str, str]:
    """What the figures are taken on, and how busy it is with other things at this moment."""
    version = subprocess.run([haproxy, "-v"], check=True, capture_output=True, text=True, timeout=10).stdout.split()
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "memory_gb": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f}",
        "load_before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "kernel": platform.release(),
        "haproxy": version[2],
    }


def close(name: str, figures: Mapping[str, object], found: Sequence[Goal]) -> tuple[Goal, ...]:
    """Prints the goals, writes everything as bench/results/NAME.json, and returns the goals."""
    listed = [{"what": goal.what, "wanted": goal.wanted, "found": goal.found, "met": goal.met} for goal in found]
    print(f"\n{goals(found)}\nwritten to {write(name, {**figures, 'goals': listed})}")
    return tuple(found)


def write(name: str, figures: Mapping[str, object]) -> Path:
    """Writes the figures as bench/results/NAME.json and returns the path. Floats get six digits."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    target.write_text(json.dumps(_short(figures), indent=1, ensure_ascii=False) + "\n")
    return target


def _short(value: object) -> object:
    match value:
        case float():
            return float(f"{value:.6g}")
        case Mapping():
            return {key: _short(one) for key, one in value.items()}
        case list() | tuple():
            return [_short(one) for one in value]
    return value
