"""Runs checks: one result each within its deadline, whatever the check does."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass

from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.nerve.judge import History, Rule, judge
from dockstack.nerve.names import Names
from dockstack.runtime.refused import reason


@dataclass(frozen=True, slots=True)
class Probe:
    """A check that is ready to be run: what it asks, for how long (seconds), and how its results count.

    `connects`: it goes to its target, whose name is looked up before.
    """

    name: str
    check: Check
    target: Address
    deadline: float
    rule: Rule
    connects: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One result of one check, with the reason of a failure; `bug` is the traceback when the check itself broke."""

    check: str
    healthy: bool
    reason: str = ""
    bug: str | None = None


async def ask(probe: Probe, names: Names | None = None) -> Outcome:
    """Runs the check once, when `names` has found its target.

    Only cancellation is raised: a check that breaks is a service that is not known to work.
    """
    bounded = asyncio.timeout(probe.deadline)
    try:
        async with bounded:
            if names is not None and probe.connects:
                await names.look_up(probe.target.host)
            await probe.check(probe.target)
    except Unhealthy as error:
        return Outcome(probe.name, False, str(error) or "unhealthy")
    except TimeoutError as error:
        late = f"no answer from {probe.target} within {probe.deadline:g} s"
        return Outcome(probe.name, False, late if bounded.expired() or not str(error) else str(error))
    except OSError as error:
        return Outcome(probe.name, False, f"{probe.target}: {reason(error)}")
    except Exception as error:  # noqa: BLE001 - third-party code: its bug must not end nerve and withdraw everything
        return Outcome(probe.name, False, f"the check broke: {error!r}", "".join(traceback.format_exception(error)))
    return Outcome(probe.name, True)


async def run(
    probes: tuple[Probe, ...], histories: tuple[History, ...], names: Names | None = None
) -> tuple[tuple[History, ...], tuple[Outcome, ...]]:
    """One round: the checks in order, ended by the first that counts as not up.

    Returns the new histories, and the results in order. A failure that `fall` still forgives does not end the round,
    and a check that is not reached keeps its history, as in SmartStack's nerve.
    """
    after, outcomes = list(histories), []
    for place, probe in enumerate(probes):
        outcome = await ask(probe, names)
        outcomes.append(outcome)
        after[place] = judge(after[place], outcome.healthy, probe.rule)
        if not after[place].up:
            break
    return tuple(after), tuple(outcomes)
