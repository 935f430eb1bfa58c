"""A token bucket over a service's reports, so that one that flaps does not wear the registry out. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dockstack.settings.nerve import RateLimiting


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many reports are free to go at the moment `at` (seconds); `rate` more come each second, up to `most`."""

    rate: float
    most: float
    tokens: float
    at: float


def filled(limits: RateLimiting, now: float) -> Bucket | None:
    """The bucket at the start, with the tokens of one second as in SmartStack's nerve; None: there is no limit."""
    if limits.average_rate is None:
        return None
    most = float("inf") if limits.max_burst is None else limits.max_burst
    return Bucket(limits.average_rate, most, min(limits.average_rate, most), now)


def take(bucket: Bucket, now: float) -> tuple[Bucket, bool]:
    """The bucket at `now`, and whether it had a token, which is gone then."""
    tokens = min(bucket.tokens + bucket.rate * max(0.0, now - bucket.at), bucket.most)
    granted = tokens >= 1
    return replace(bucket, tokens=tokens - granted, at=max(now, bucket.at)), granted
