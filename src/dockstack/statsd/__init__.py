"""Metrics and how they are written, in the form of DogStatsD. Pure; `sender` sends them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from dockstack.events import Event
from dockstack.registry import Locator

LONGEST = 1432
"""Bytes of a datagram, so that it is one packet on every Ethernet."""

_BREAKS = str.maketrans(dict.fromkeys("|,\n\r", "_"))


@dataclass(frozen=True, slots=True)
class Metric:
    """One value: counts (`c`), milliseconds (`ms`) or the present size of something (`g`); tags are `name:value`."""

    name: str
    tags: tuple[str, ...] = ()
    value: float = 1
    kind: Literal["c", "ms", "g"] = "c"


Metrics = Callable[[Event], Iterable[Metric]]
"""What an event is worth; pure."""


def line(metric: Metric, rate: float = 1) -> str:
    """The metric as it is sent; `rate` is the share of its kind that is sent at all."""
    sampled = "" if rate == 1 else f"|@{rate:g}"
    tags = ",".join(tag.translate(_BREAKS) for tag in metric.tags)
    return f"{metric.name}:{metric.value:.10g}|{metric.kind}{sampled}{'|#' if tags else ''}{tags}"


def datagrams(lines: Iterable[str]) -> Iterable[bytes]:
    """The lines, packed into as few datagrams as they fit in; a line that is longer than one goes alone."""
    packed = b""
    for each in lines:
        data = each.encode()
        if packed and len(packed) + 1 + len(data) > LONGEST:
            yield packed
            packed = data
        else:
            packed = packed + b"\n" + data if packed else data
    if packed:
        yield packed


CLEAN = ("stop_avenue:clean", "stop_location:main_loop")
"""The tags of an end as it should be."""


def stop(error: BaseException | None) -> tuple[str, ...]:
    """The tags of a daemon's end: by a bug, or as it should be."""
    if error is None:
        return CLEAN
    named = (f"exception_name:{type(error).__name__}", f"exception_message:{error}")
    return ("stop_avenue:abort", "stop_location:main_loop", *named)


def cluster(locator: Locator) -> str:
    """SmartStack's name of a ZooKeeper: its first host in order, up to the first dot, without digits at its end."""
    if not locator.hosts:
        return ""
    first = min(locator.hosts, key=str)
    return first.host.partition(".")[0].rstrip("0123456789") or str(first)
