"""All benchmarks, one after the other, and at the end how every figure stands to what is wanted of it.

python -m bench [--haproxy FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from bench import burst, churn, convergence, nerve, pure, reload, scale
from bench.report import Goal, goals, machine
from bench.stage import arguments, haproxies, haproxy


def main() -> None:
    """A table of goals; figures that miss theirs are no error of the program."""
    given = arguments(__doc__).haproxy
    one, every = haproxy(given), tuple(haproxies(given))
    begun = time.monotonic()
    runs: dict[str, Callable[[], tuple[Goal, ...]]] = {
        "pure": lambda: pure.run(one),
        "convergence": lambda: convergence.run(one),
        "burst": lambda: burst.run(one),
        "scale": lambda: scale.run(one),
        "churn": lambda: churn.run(every),
        "reload": lambda: reload.run(every),
        "nerve": lambda: nerve.run(one),
    }
    found: list[Goal] = []
    for name, run in runs.items():
        print(f"\n== {name}\n", flush=True)
        found += (replace(goal, what=f"{name}: {goal.what}") for goal in run())
    about = ", ".join(f"{name} {value}" for name, value in machine(one).items())
    print(f"\n== all, in {time.monotonic() - begun:.0f} s ({about})\n\n{goals(found)}")


if __name__ == "__main__":
    main()
