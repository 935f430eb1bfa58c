"""Several sources of one service, and how they become one: a class for each resolver, with its keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dockstack.settings.common import Model, Number
from dockstack.settings.discovery import Discovery, OneDiscovery

PRIMARY = "primary"
"""The name that a service's `discovery` has among the watchers of its `discovery_multi`."""


class BaseResolver(Model):
    """Nobody is served: what SmartStack's resolver of this name does."""

    method: Literal["base"]


class UnionResolver(Model):
    """The servers of all watchers together."""

    method: Literal["union"]


class SequentialResolver(Model):
    """The servers of the first watcher in this order that is up and has some; where none has, the first one's."""

    method: Literal["sequential"]
    sequential_order: tuple[str, ...]


def _s3_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key:
        raise ValueError(f"{url!r} is not written as s3://BUCKET/KEY")
    return url


class S3ToggleResolver(Model):
    """The servers of the watcher that was drawn by the weights in a file in S3; until it was read, of `primary`."""

    method: Literal["s3_toggle"]
    s3_url: Annotated[str, AfterValidator(_s3_url)]
    s3_polling_interval_seconds: Annotated[Number, Field(gt=0)]

    @property
    def file(self) -> tuple[str, str]:
        """The bucket, and the key in it."""
        bucket, _, key = self.s3_url.removeprefix("s3://").partition("/")
        return bucket, key


AnyResolver = BaseResolver | UnionResolver | SequentialResolver | S3ToggleResolver
Resolver = Annotated[AnyResolver, Field(discriminator="method")]


class MultiDiscovery(Discovery):
    """Several sources of one service, and how they become one."""

    method: Literal["multi"]
    watchers: Annotated[dict[str, OneDiscovery], Field(min_length=1)]
    resolver: Resolver


class DiscoveryMulti(Discovery):
    """The sources beside a service's `discovery`, which is the watcher `primary`, and how they become one."""

    method: Literal["multi"] = "multi"
    watchers: dict[str, OneDiscovery] = {}
    resolver: Resolver
