from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.events import Event
from dockstack.model import Entry, Instance
from dockstack.settings.common import OFFERED
from dockstack.settings.synapse import SynapseService
from dockstack.synapse import snapshot
from dockstack.synapse.snapshot import (
    Saved,
    SnapshotFile,
    SnapshotUnreadable,
    decode,
    encode,
    encode_one,
    fingerprint,
    load,
)
from tests.synapse.disk import slow_disk
from tests.waiting import eventually

INSTANCES = st.builds(
    Instance,
    host=st.text(min_size=1),
    port=st.integers(1, 65535) | st.text(min_size=1),
    name=st.none() | st.text(),
    id=st.none() | st.integers(0, 2**40),
    weight=st.none() | st.integers() | st.text(),
    haproxy_server_options=st.none() | st.text(),
    labels=st.none() | st.just('{"a":1}'),
)
SAVED = st.builds(
    Saved,
    fingerprint=st.text(),
    entry=st.builds(Entry, st.lists(INSTANCES, max_size=4).map(tuple)),
    ids=st.dictionaries(st.text(), st.integers(1, 65535), max_size=4),
    config=st.text(),
    watchers=st.dictionaries(
        st.text(min_size=1),
        st.tuples(st.builds(Entry, st.lists(INSTANCES, max_size=2).map(tuple)), st.text()),
        max_size=2,
    ),
    known=st.booleans(),
)
ONE = Saved("mark", Entry((Instance("h", 80, "n", 7, 3, "opt", '{"a":1}'),)), {"n_h:80": 7}, "{}")


def test_a_file_that_is_nested_without_end_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(SnapshotUnreadable, match="recursion"):
        load(path)


def service(**discovery: Any) -> SynapseService:
    return SynapseService.model_validate(
        {"discovery": {"method": "zookeeper", "hosts": ["h:1"], "path": "/a", **discovery}}
    )


def ignore(event: Event) -> None:
    """Events are of no interest here."""


@given(st.dictionaries(st.text(), SAVED, max_size=3))
def test_what_is_written_is_read(saved: dict[str, Saved]) -> None:
    assert decode(encode(encode_one(name, one) for name, one in saved.items())) == saved


@given(st.dictionaries(st.text(), SAVED, min_size=1, max_size=3), st.data())
def test_the_last_line_about_a_service_counts_and_half_a_line_does_not(
    saved: dict[str, Saved], data: st.DataObject
) -> None:
    lines = [encode_one(name, one) for name, one in saved.items()]
    whole = encode([encode_one(name, replace(one, fingerprint="old")) for name, one in saved.items()] + lines[:-1])
    last = f"{lines[-1]}\n".encode()
    assert decode(whole + last) == saved
    name, one = list(saved.items())[-1]
    torn = last[: data.draw(st.integers(0, len(last) - 1))]
    assert decode(whole + torn) == {**saved, name: replace(one, fingerprint="old")}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"version":1,"services":{}}\n',
        b'{"version":2}\n{\n',
        b'{"version":2}\n[]\n',
        b'{"version":2}\n{"service":1}\n',
        b'{"version":2}\n{"service":"a"}\n',
        b'{"version":2}\n{"service":"a","fingerprint":"","instances":[{"host":1,"port":2}],"ids":{},"config":""}\n',
        b'{"version":2}\n{"service":"a","fingerprint":"","instances":[{"host":"h"}],"ids":{},"config":""}\n',
        b'{"version":2}\n{"service":"a","fingerprint":"","instances":[{"host":"h","port":1,"x":1}],"ids":{},"config":""}\n',
        b'{"version":2}\n{"service":"a","fingerprint":"","instances":[],"ids":{"n":"7"},"config":""}\n',
    ],
)
def test_damage_is_one_error_with_the_place(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(data)
    with pytest.raises(SnapshotUnreadable, match=str(path)):
        load(path)


def test_the_fingerprint_knows_the_account_and_not_its_secret() -> None:
    def tagged(**more: Any) -> str:
        looks = {"method": "ec2tag", "tag_name": "a", "tag_value": "b", "aws_access_key_id": "one", **more}
        return fingerprint(SynapseService.model_validate({"discovery": looks}))

    assert tagged(aws_secret_access_key="x") == tagged(aws_secret_access_key="y")
    assert len({tagged(), tagged(aws_access_key_id="two"), tagged(tag_value="c")}) == 3


def test_no_file_is_nothing_saved(tmp_path: Path) -> None:
    assert load(tmp_path / "none") == {}


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SnapshotUnreadable, match="Is a directory"):
        load(tmp_path)


def test_the_fingerprint_follows_where_the_instances_are_found() -> None:
    assert fingerprint(service()) == fingerprint(service())
    assert fingerprint(service(path="/b")) != fingerprint(service())
    assert fingerprint(service(hosts=["other:1"])) != fingerprint(service())


@pytest.mark.parametrize(
    ("discovery", "other"),
    [
        ({"method": "dns", "servers": [{"host": "a", "port": 1}]}, {"servers": [{"host": "b", "port": 1}]}),
        ({"method": "dns", "servers": [{"host": "a", "port": 1}]}, {"nameserver": "10.0.0.1"}),
        ({"method": "zookeeper_dns", "hosts": ["h"], "path": "/a"}, {"path": "/b"}),
        ({"method": "zookeeper_dns_poll", "hosts": ["h"], "path": "/a"}, {"nameserver": "10.0.0.1"}),
        ({"method": "marathon", "marathon_api_url": "http://h", "application_name": "a"}, {"application_name": "b"}),
        ({"method": "acme", "place": "a"}, {"place": "b"}),
    ],
)
def test_every_method_has_its_fingerprint(discovery: dict[str, Any], other: dict[str, Any]) -> None:
    def mark(one: dict[str, Any]) -> str:
        context = {OFFERED: lambda group, name: name == "acme"}
        return fingerprint(SynapseService.model_validate({"discovery": one}, context=context))

    assert mark(discovery) == mark({**discovery})
    assert mark(discovery) != mark({**discovery, **other})


async def test_the_file_follows_what_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    keeper = SnapshotFile(path, {"a": "1", "b": "2"}, ignore)
    task = asyncio.create_task(keeper.run())
    keeper.remember("a", ONE.entry, {"n_h:80": 7}, {"": (ONE.entry, "x")})
    await eventually(path.exists, "written")
    keeper.remember("b", Entry(()), {}, {"": (ONE.entry, "")})
    await eventually(lambda: len(load(path)) == 2, "written again")
    assert load(path) == {"a": Saved("1", ONE.entry, {"n_h:80": 7}, "x"), "b": Saved("2", Entry(()), {}, "")}
    assert path.stat().st_mode & 0o777 == 0o600
    task.cancel()
    await asyncio.wait((task,))


async def test_of_a_service_that_never_answered_only_the_ids_are_kept(tmp_path: Path) -> None:
    path = tmp_path / snapshot.FILE
    keeper = SnapshotFile(path, {"a": "1"}, ignore)
    keeper.remember("a", ONE.entry, {"n_h:80": 7}, {})
    await keeper.flush()
    saved = load(path)["a"]
    assert saved.ids == {"n_h:80": 7}
    assert saved.parts == {}


async def test_each_of_several_watchers_is_kept(tmp_path: Path) -> None:
    path = tmp_path / snapshot.FILE
    keeper = SnapshotFile(path, {"a": "1"}, ignore)
    parts = {"primary": (ONE.entry, "x"), "other": (Entry(()), "")}
    keeper.remember("a", ONE.entry, {}, parts)
    await keeper.flush()
    assert load(path)["a"].parts == parts


async def test_what_the_disk_refuses_is_known_until_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SPACING", 0.01)
    path = tmp_path / "not-yet" / "s.json"
    keeper = SnapshotFile(path, {"a": "1"}, lambda _: None)
    task = asyncio.create_task(keeper.run())
    keeper.remember("a", ONE.entry, {}, {"": (ONE.entry, "")})
    trouble = f"{path} cannot be written: No such file or directory"
    await eventually(lambda: keeper.trouble == (trouble,), "known")
    path.parent.mkdir()
    await eventually(lambda: keeper.trouble == (), "written in the end")
    task.cancel()
    await asyncio.wait((task,))


async def test_a_disk_that_refuses_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SPACING", 0.01)
    path = tmp_path / "not-yet" / "s.json"
    said: list[Event] = []
    keeper = SnapshotFile(path, {"a": "1"}, said.append)
    task = asyncio.create_task(keeper.run())
    keeper.remember("a", ONE.entry, {}, {"": (ONE.entry, "")})
    await eventually(lambda: bool(said), "told")
    os.mkdir(path.parent)
    await eventually(path.exists, "written in the end")
    assert load(path).keys() == {"a"}
    task.cancel()
    await asyncio.wait((task,))


async def test_other_settings_forget_who_is_gone_and_keep_the_rest_by_its_new_mark(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "s.json", {"a": "1", "b": "2"}, ignore)
    for name in "ab":
        file.remember(name, ONE.entry, ONE.ids, ONE.parts)
    await file.flush()
    file.change({"a": "3", "c": "4"})
    await file.flush()
    assert {name: one.fingerprint for name, one in load(tmp_path / "s.json").items()} == {"a": "3"}
    for name in "bc":  # one that is gone meanwhile may still be told of
        file.remember(name, ONE.entry, ONE.ids, ONE.parts)
    await file.flush()
    assert load(tmp_path / "s.json").keys() == {"a", "c"}


async def test_a_service_that_goes_while_the_disk_refuses_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "not-yet" / "s.json"
    keeper = keeper_of_two(path)
    write = asyncio.create_task(keeper.flush())
    await asyncio.sleep(0)
    keeper.change({"a": "1"})
    with pytest.raises(OSError, match="No such file"):
        await write
    path.parent.mkdir()
    await keeper.flush()
    assert load(path).keys() == {"a"}


async def test_a_service_that_goes_while_the_file_is_written_is_not_left_in_it(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    keeper = keeper_of_two(path)
    write = asyncio.create_task(keeper.flush())
    await asyncio.sleep(0)
    keeper.change({"a": "1"})
    await write
    assert load(path).keys() == {"a", "b"}
    await keeper.flush()
    assert load(path).keys() == {"a"}


def keeper_of_two(path: Path) -> SnapshotFile:
    keeper = SnapshotFile(path, {"a": "1", "b": "2"}, ignore)
    for name in "ab":
        keeper.remember(name, ONE.entry, ONE.ids, ONE.parts)
    return keeper


async def test_a_change_is_appended_until_the_file_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LEAST", 2000)
    path = tmp_path / snapshot.FILE
    keeper = keeper_of_two(path)
    await keeper.flush()
    whole = path.read_bytes()
    sizes = []
    for number in range(1, 60):
        keeper.remember("a", Entry((Instance("h", number),)), {}, {"": (ONE.entry, "")})
        await keeper.flush()
        saved = load(path)
        assert (saved["a"].entry.instances[0].port, saved["b"].entry) == (number, ONE.entry)
        if number == 1:
            assert path.read_bytes().startswith(whole)
        sizes.append(path.stat().st_size)
    assert max(sizes) < len(whole) + 2000
    assert any(after < before for before, after in pairwise(sizes))


@pytest.mark.parametrize("fault", ["deleted", "unwritable"])
async def test_a_file_that_cannot_be_appended_to_is_written_whole(tmp_path: Path, fault: str) -> None:
    path = tmp_path / snapshot.FILE
    keeper = keeper_of_two(path)
    await keeper.flush()
    path.unlink()
    if fault == "unwritable":
        path.mkdir()
    keeper.remember("a", Entry(()), {}, {"": (ONE.entry, "")})
    if fault == "unwritable":
        with pytest.raises(OSError, match="Is a directory"):
            await keeper.flush()
        path.rmdir()
    await keeper.flush()
    assert {name: one.entry for name, one in load(path).items()} == {"a": Entry(()), "b": ONE.entry}


async def test_a_write_that_was_given_up_does_not_come_behind_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.json"
    keeper = SnapshotFile(path, {"a": "1", "b": "2"}, ignore)
    keeper.remember("a", ONE.entry, ONE.ids, ONE.parts)
    async with slow_disk(monkeypatch) as disk:
        first = asyncio.create_task(keeper.flush())
        await eventually(lambda: disk.begun, "it is written")
        first.cancel()
        await asyncio.wait((first,))
        keeper.remember("b", ONE.entry, ONE.ids, ONE.parts)
        disk.free_soon()
        await keeper.flush()
    assert load(path).keys() == {"a", "b"}


async def test_nothing_told_leaves_the_file_of_the_last_run_alone(tmp_path: Path) -> None:
    path = tmp_path / snapshot.FILE
    await keeper_of_two(path).flush()
    await SnapshotFile(path, {"a": "1", "b": "2"}, ignore).flush()
    assert load(path).keys() == {"a", "b"}
