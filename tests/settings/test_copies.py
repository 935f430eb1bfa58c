"""`load_test_concurrency`: what is run, and under which names."""

from __future__ import annotations

from typing import Any

from dockstack.settings.copies import clashes, spread
from dockstack.settings.nerve import NerveService


def services(**counts: int | None) -> dict[str, NerveService]:
    def one(count: int | None) -> dict[str, Any]:
        return {"host": "h", "port": 80, "weight": 7} | ({} if count is None else {"load_test_concurrency": count})

    return {name: NerveService.model_validate(one(count)) for name, count in counts.items()}


def test_a_service_is_run_as_often_as_it_says() -> None:
    run = spread(services(web=3, db=None))
    assert list(run) == ["web_0", "web_1", "web_2", "db"]
    assert {one.weight for one in run.values()} == {7}


def test_more_copies_leave_the_others_as_they_are() -> None:
    two, three = spread(services(web=2)), spread(services(web=3))
    assert {name: three[name] for name in two} == two
    assert spread(two) == two


def test_two_services_of_one_name_are_named() -> None:
    assert list(clashes(services(web=2, db=None, web_1=None))) == [
        ("web_1", "is run as web_1, as web is: give one of them another name")
    ]
    assert list(clashes(services(web=2, db=None, web_2=None, web_0_0=1))) == []
