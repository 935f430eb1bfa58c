"""The method `ec2tag`: the running instances of Amazon's EC2 that have a tag, asked for again and again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dockstack.events import Emit
from dockstack.model import NO_PORT, Instance
from dockstack.registry import Snapshot
from dockstack.registry.url import is_host
from dockstack.runtime import loops
from dockstack.settings.discovery import Ec2tagDiscovery
from dockstack.synapse import aws
from dockstack.synapse.watchers import Sessions, Watcher

SHORTEST = 0.5
"""Seconds between two reads at the least, whatever the settings say."""

PAGE = 1000
"""How many instances one answer may have; EC2's own limit."""


@dataclass(frozen=True, slots=True)
class TagWatcher:
    """Reads the instances at once and then each `interval` seconds; the second time after a part of it only, by
    chance, so that hosts that started together spread. EC2 itself takes `*` and `?` in the value as patterns."""

    tag: str
    value: str
    access: aws.Access
    interval: float
    emit: Emit
    page: int = PAGE

    async def follow(self) -> AsyncIterator[Snapshot]:
        """Each read that found something else than the one before; a failed one is tried again, with growing pauses."""
        last = None
        what = f"reading the instances of EC2 with the tag {self.tag}={self.value}"
        slowest = max(self.interval, 1.0)
        async for snapshot in loops.follow(what, self._reads, (aws.AwsUnavailable,), self.emit, slowest, gently=True):
            if snapshot != last:
                last = snapshot
                yield snapshot

    async def _reads(self) -> AsyncIterator[Snapshot]:
        async with aws.client("ec2", self.access) as ec2:
            pause = self.interval * random.random()
            while True:
                yield found([each async for each in self._reservations(ec2)])
                await asyncio.sleep(max(SHORTEST, pause))
                pause = self.interval

    async def _reservations(self, ec2: aws.Client) -> AsyncIterator[Mapping[str, Any]]:
        filters = [
            {"Name": f"tag:{self.tag}", "Values": [self.value]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
        pages = ec2.get_paginator("describe_instances").paginate(
            Filters=filters, PaginationConfig={"PageSize": self.page}
        )
        more = aiter(pages)
        while True:
            try:
                async with asyncio.timeout(aws.LIMIT):
                    page = await anext(more)
            except StopAsyncIteration:
                return
            for reservation in page.get("Reservations", ()):
                yield reservation


def found(reservations: Iterable[Mapping[str, Any]]) -> Snapshot:
    """The instances of an answer of EC2, by address, without ports; one without a private address is named. Pure."""
    instances, problems = [], []
    for reservation in reservations:
        for one in reservation.get("Instances", ()):
            host, name = one.get("PrivateIpAddress") or "", one.get("PrivateDnsName") or ""
            if is_host(host):
                instances.append(Instance(host, NO_PORT, name if is_host(name) else None))
            else:
                problems.append(f"EC2: the instance {one.get('InstanceId')} has no private address; it is left out")
    return Snapshot(tuple(sorted(instances, key=lambda one: (one.host, one.name or ""))), b"", tuple(sorted(problems)))


def build(settings: Ec2tagDiscovery, sessions: Sessions, emit: Emit) -> Watcher:
    """The watcher of a tag. Raises ConfigurationError where the library is missing, or a half of the credentials."""
    secret = settings.aws_secret_access_key
    access = aws.access(
        f"discovery by {settings.method}",
        settings.aws_region,
        settings.aws_access_key_id,
        None if secret is None else secret.get_secret_value(),
    )
    return TagWatcher(settings.tag_name, settings.tag_value, access, settings.check_interval, emit)
