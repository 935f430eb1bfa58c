"""Finding instances of EC2 by a tag, on moto's server, with failures between it and us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockstack.errors import ConfigurationError
from dockstack.events import Event, Retrying
from dockstack.model import NO_PORT, Instance
from dockstack.registry import Locator, Registry, Snapshot
from dockstack.settings.discovery import Ec2tagDiscovery
from dockstack.synapse import aws
from dockstack.synapse.watchers import awstag, ec2tag
from dockstack.synapse.watchers.ec2tag import TagWatcher, found
from tests.servers.aws import AwsServer, surroundings, throttling
from tests.servers.proxy import TcpProxy
from tests.waiting import eventually


class NoSessions:
    async def get(self, locator: Locator) -> Registry:
        raise AssertionError("no registry is asked")


def watcher(emit: Callable[[Event], None], name: str, **more: Any) -> TagWatcher:
    settings = Ec2tagDiscovery.model_validate(
        {"method": "ec2tag", "tag_name": "role", "tag_value": name, "check_interval": 0, **more}
    )
    built = ec2tag.build(settings, NoSessions(), emit)
    assert isinstance(built, TagWatcher)
    return built


async def launched(server: AwsServer, count: int, **tags: str) -> list[str]:
    """The ids of that many new instances with these tags, each a reservation of its own."""
    told = [{"Key": key, "Value": value} for key, value in tags.items()]
    async with server.client("ec2") as ec2:
        image = (await ec2.describe_images())["Images"][0]["ImageId"]
        specification = [{"ResourceType": "instance", "Tags": told}]
        answers = [
            await ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=specification)
            for _ in range(count)
        ]
    return [one["InstanceId"] for answer in answers for one in answer["Instances"]]


@asynccontextmanager
async def following(one: TagWatcher) -> AsyncIterator[list[Snapshot]]:
    seen: list[Snapshot] = []

    async def follow() -> None:
        async for snapshot in one.follow():
            seen.append(snapshot)

    task = asyncio.create_task(follow())
    try:
        yield seen
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait((task,))


def reservation(*instances: dict[str, Any]) -> dict[str, Any]:
    return {"Instances": list(instances)}


@pytest.mark.parametrize(
    ("answer", "instances", "problems"),
    [
        ([], (), 0),
        (
            [
                reservation({"PrivateIpAddress": "10.0.0.2", "PrivateDnsName": "two.ec2.internal"}),
                reservation({"PrivateIpAddress": "10.0.0.1", "PrivateDnsName": ""}, {"PrivateIpAddress": "10.0.0.3"}),
            ],
            (
                Instance("10.0.0.1", NO_PORT),
                Instance("10.0.0.2", NO_PORT, "two.ec2.internal"),
                Instance("10.0.0.3", NO_PORT),
            ),
            0,
        ),
        ([reservation({"InstanceId": "i-1"}, {"PrivateIpAddress": "10.0.0.1"})], (Instance("10.0.0.1", NO_PORT),), 1),
        ([reservation({"PrivateIpAddress": "10.0.0.1\n x"})], (), 1),
        ([reservation({"PrivateIpAddress": "::1", "PrivateDnsName": "a\nb"})], (Instance("::1", NO_PORT),), 0),
    ],
)
def test_what_an_answer_comes_to(answer: list[Any], instances: tuple[Instance, ...], problems: int) -> None:
    snapshot = found(answer)
    assert (snapshot.instances, len(snapshot.problems)) == (instances, problems)


async def test_running_instances_with_the_tag_over_several_pages(
    aws_server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in surroundings(aws_server.port, tmp_path).items():
        monkeypatch.setenv(name, value)
    wanted = await launched(aws_server, 5, role="paged")
    await launched(aws_server, 1, role="another")
    await launched(aws_server, 1, other="paged")
    said: list[Event] = []
    async with following(replace(watcher(said.append, "paged"), page=2)) as seen:
        await eventually(lambda: len(seen) == 1, "the first")
        async with aws_server.client("ec2") as ec2:
            told = await ec2.describe_instances(InstanceIds=wanted)
            ours = [one for each in told["Reservations"] for one in each["Instances"]]
            expected = sorted((one["PrivateIpAddress"], NO_PORT, one["PrivateDnsName"]) for one in ours)
            assert [(one.host, one.port, one.name) for one in seen[0].instances] == expected
            assert len(expected) == 5
            await ec2.stop_instances(InstanceIds=wanted[:1])
            await eventually(lambda: len(seen) == 2, "the second")
            assert len(seen[1].instances) == 4
            await ec2.terminate_instances(InstanceIds=wanted)
            await eventually(lambda: len(seen) == 3, "the third")
            assert seen[2] == Snapshot(())
    assert not said


async def test_a_failure_keeps_the_last_answer_and_is_named(
    aws_server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "LIMIT", 0.7)
    said: list[Event] = []

    def told(what: str) -> bool:
        return any(isinstance(event, Retrying) and what in event.error for event in said)

    wanted = await launched(aws_server, 2, role="kept")
    async with TcpProxy(aws_server.port) as proxy, throttling() as throttled:
        for name, value in surroundings(proxy.port, tmp_path).items():
            monkeypatch.setenv(name, value)
        await proxy.refuse()
        async with following(watcher(said.append, "kept")) as seen:
            await eventually(lambda: told("Could not connect"), "a start without EC2")
            assert not seen
            await proxy.heal()
            await eventually(lambda: len(seen) == 1, "the first")
            proxy.upstream_port = throttled
            proxy.cut()
            await eventually(lambda: told("RequestLimitExceeded"), "the throttling is told")
            proxy.upstream_port = aws_server.port
            proxy.silence()
            await eventually(lambda: told("no answer within 0.7 s"), "the silence is told")
            assert [len(one.instances) for one in seen] == [2]
            await proxy.heal()
            async with aws_server.client("ec2") as ec2:
                await ec2.terminate_instances(InstanceIds=wanted[:1])
            await eventually(lambda: len(seen) == 2, "the second")
            assert len(seen[1].instances) == 1
    assert "role=kept" in str(said[0])
    assert "secret" not in repr(said)


async def test_credentials_of_the_settings_and_none_at_all(
    aws_server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in surroundings(aws_server.port, tmp_path).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    said: list[Event] = []
    async with following(watcher(said.append, "nobody")) as seen:
        await eventually(lambda: bool(said), "a failure")
        assert "credentials" in str(said[0])
        assert not seen
    keys = {"aws_access_key_id": "mine", "aws_secret_access_key": "own", "aws_region": "us-west-2"}
    async with following(watcher(said.append, "nobody", **keys)) as seen:
        await eventually(lambda: len(seen) == 1, "an answer")
        assert seen == [Snapshot(())]


async def test_an_endpoint_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in surroundings(1, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no place")
    said: list[Event] = []
    async with following(watcher(said.append, "x")) as seen:
        await eventually(lambda: bool(said), "a failure")
        assert "no place" in str(said[0])
        assert not seen


def test_half_of_the_credentials_is_completed_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "theirs")
    built = watcher(print, "x", aws_access_key_id="mine", aws_region="r")
    assert built.access == aws.Access("r", "mine", "theirs")
    assert "theirs" not in repr(built)
    assert watcher(print, "x").access == aws.Access()
    with pytest.raises(
        ConfigurationError, match="aws_secret_access_key is given, and neither aws_access_key_id nor AWS_"
    ):
        watcher(print, "x", aws_secret_access_key="own")


def test_the_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"ec2tag: needs the library aiobotocore.*dockstack\[aws\]"):
        watcher(print, "x")


def test_two_names() -> None:
    assert awstag.build is ec2tag.build
    assert Ec2tagDiscovery.model_validate({"method": "awstag", "tag_name": "a", "tag_value": 1}).tag_value == "1"
