"""From settings to services that are ready to run, and the pace at which one is watched."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dockstack.errors import ConfigurationError
from dockstack.events import Event
from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.nerve.judge import Rule
from dockstack.nerve.names import Names
from dockstack.nerve.probe import Outcome, Probe
from dockstack.nerve.service import Round, Service, Start, plan, watch
from dockstack.settings.nerve import NerveSettings


def settings(**services: dict[str, Any]) -> NerveSettings:
    common = {"host": "127.0.0.1", "port": 80, "zk_hosts": ["zk:2181"], "zk_path": "/nerve"}
    return NerveSettings.model_validate(
        {"instance_id": "i-1", "services": {name: {**common, **keys} for name, keys in services.items()}}
    )


def test_a_service_that_is_ready_to_run() -> None:
    (service,) = plan(
        settings(
            web={
                "checks": [
                    {"type": "tcp", "rise": 3, "fall": 2, "timeout": "0.2"},
                    {"type": "http", "uri": "/health", "host": "10.1.1.1", "port": "8080", "ssl": True},
                    {"type": "mysql", "name": "db", "strict_rise": True},
                ]
            }
        )
    )
    here = Address("127.0.0.1", 80)
    tcp, http, mysql = service.probes
    assert (tcp.name, tcp.target, tcp.deadline, tcp.rule) == ("web tcp-127.0.0.1:80", here, 0.2, Rule(3, 2))
    assert (http.name, http.target) == ("http-10.1.1.1:8080/health", Address("10.1.1.1", 8080))
    assert http.deadline == pytest.approx(0.2 + 0.2 + 0.1)
    assert (mysql.name, mysql.target, mysql.rule) == ("db", here, Rule(strict_rise=True))
    assert service.registration.key == "web"
    assert service.locator.scheme == "zookeeper"


def test_equal_settings_need_no_restart_and_others_do() -> None:
    checks = [{"type": "tcp"}]
    before = plan(settings(web={"checks": checks}))
    assert plan(settings(web={"checks": checks})) == before
    changes: tuple[dict[str, Any], ...] = (
        {"port": "80"},
        {"labels": {"a": 1}},
        {"labels": None},
        {"checks": []},
        {"check_interval": 1},
    )
    for change in changes:
        assert plan(settings(web={"checks": checks, **change})) != before, change
    assert plan(settings(web={"labels": {"a": 1}})) != plan(settings(web={"labels": {"a": True}}))


def test_all_problems_are_told_with_their_place() -> None:
    with pytest.raises(ConfigurationError) as raised:
        plan(
            settings(
                a={"zk_hosts": [], "zk_path": ""},
                b={},
                c={"checks": [{"type": "tcp"}, {"type": "x", "module": "htpp", "anything": 1}]},
                e={"checks": [{"type": "http", "module": "http", "uri": "/"}]},
                d={"checks": [{"type": "http", "uri": "/", "ssl": True, "verify": True, "ca_file": "/nowhere"}]},
            )
        )
    assert [problem.where for problem in raised.value.problems] == [
        "services.a",
        "services.a",
        "services.c.checks[1]",
        "services.e.checks[0]",
        "services.d.checks[0]",
    ]
    text = str(raised.value)
    for words in (
        "zk_path is missing",
        "zk_hosts is missing",
        "did you mean http?",
        "module http is built in",
        "No such file",
    ):
        assert words in text


def test_a_check_of_somebody_elses_keeps_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_probe.py").write_text(
        "def build(settings, target): return repr((settings.model_extra, target)).__contains__\n"
    )
    metadata = tmp_path / "acme_probe-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-probe\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[dockstack.checks]\nacme = acme_probe\n")
    monkeypatch.syspath_prepend(tmp_path)
    (service,) = plan(settings(web={"checks": [{"type": "tcp", "module": "acme", "depth": 3, "timeout": 1}]}))
    built: Any = service.probes[0].check
    assert built("{'depth': 3}")
    assert built("Address(host='127.0.0.1', port=80)")
    assert service.probes[0].deadline == 1


@pytest.mark.parametrize("check", [{"type": "tpc"}, {"type": "tcp", "fail": 2}, {}, {"type": None}, "tcp"])
def test_a_check_that_is_none_is_refused_by_the_settings(check: object) -> None:
    with pytest.raises(ValidationError):
        settings(web={"checks": [check]})


def test_a_secret_is_warned_of_with_its_place() -> None:
    (service,) = plan(settings(web={"checks": [{"type": "http", "uri": "/", "headers": {"Authorization": "x"}}]}))
    assert len(service.warnings) == 1
    assert service.warnings[0].startswith("services.web.checks[0]: sends an Authorization header")


def test_the_checks_of_copies_are_named_by_them() -> None:
    checks = [{"type": "tcp"}, {"type": "http", "uri": "/x"}, {"type": "tcp", "name": "own"}]
    copies = plan(settings(web={"load_test_concurrency": 2, "checks": checks}))
    assert [[probe.name for probe in copy.probes] for copy in copies] == [
        [f"web_{number} tcp-127.0.0.1:80", "http-127.0.0.1:80/x", "own"] for number in (0, 1)
    ]


def test_only_the_checks_that_connect_have_their_name_looked_up() -> None:
    kinds = [{"type": "tcp"}, {"type": "http", "uri": "/"}, {"type": "noop"}, {"type": "exec", "command": "true"}]
    (service,) = plan(settings(web={"checks": [*kinds, {"type": "mysql"}]}))
    assert [probe.connects for probe in service.probes] == [True, True, False, False, True]


def test_an_address_in_brackets_is_checked_without_them() -> None:
    (service,) = plan(settings(web={"host": "[::1]", "checks": [{"type": "tcp"}, {"type": "tcp", "host": "[::2]"}]}))
    assert service.address == Address("::1", 80)
    assert [probe.target.host for probe in service.probes] == ["::1", "::2"]


# Watching, in loop time.


def watched(check: Check, **keys: Any) -> Service:
    (service,) = plan(settings(web={"check_interval": 2, **keys}))
    return replace(service, probes=(Probe("c", check, Address("127.0.0.1", 80), 0.5, Rule()),))


async def follow(service: Service, first: float, seconds: float) -> tuple[list[tuple[float, Round]], list[Event]]:
    """Each round with the seconds since the start, and the events."""
    loop = asyncio.get_running_loop()
    start, rounds, told = loop.time(), list[tuple[float, Round]](), list[Event]()

    def tell(now: Round) -> bool:
        rounds.append((round(loop.time() - start, 3), now))
        return True

    task = asyncio.ensure_future(watch(service, Start(first, first), tell, told.append, Names()))
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    await asyncio.wait({task})
    return rounds, told


@pytest.mark.looptime
async def test_checks_keep_a_fixed_pace() -> None:
    async def slow(target: Address) -> None:
        await asyncio.sleep(0.4)

    rounds, _ = await follow(watched(slow), 0.5, 7)
    assert [moment for moment, _ in rounds] == [0.9, 2.9, 4.9, 6.9]
    assert {now.up for _, now in rounds} == {True}


@pytest.mark.looptime
@pytest.mark.parametrize("keys", [{"check_mocked": True}, {}])
async def test_nothing_to_check_is_up_at_once_and_told_at_the_pace_of_checks(keys: dict[str, Any]) -> None:
    async def never(target: Address) -> None:
        raise AssertionError("it was checked")

    service = watched(never, **keys)
    rounds, _ = await follow(service if keys else replace(service, probes=()), 1.5, 6)
    assert rounds == [(moment, Round(True)) for moment in (0.0, 3.5, 5.5)]


@pytest.mark.looptime
async def test_a_bug_in_a_check_is_told_once_and_counts_as_down() -> None:
    async def broken(target: Address) -> None:
        raise KeyError("bug")

    rounds, told = await follow(watched(broken), 0, 9)
    assert [now.up for _, now in rounds] == [False] * 5
    assert len(told) == 1
    assert "KeyError: 'bug'" in str(told[0])


@pytest.mark.looptime
async def test_a_round_names_the_failure() -> None:
    async def down(target: Address) -> None:
        raise Unhealthy("no")

    rounds, told = await follow(watched(down), 0, 1)
    assert rounds[0][1].failure == Outcome("c", False, "no")
    assert not told
