from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from dockstack.events import Note
from dockstack.model import Instance
from dockstack.synapse.daemon import layout_of
from dockstack.synapse.events import (
    Applied,
    CandidateRefused,
    HaproxyEnded,
    Reloaded,
    Repaired,
    ServerRefused,
    ServiceRefused,
)
from dockstack.synapse.haproxy import apply, link, master, process, reload
from dockstack.synapse.haproxy.model import Admin
from dockstack.synapse.haproxy.seat import Seat
from tests.servers.haproxy import HaproxyBinary
from tests.servers.ports import accepts, free_port
from tests.synapse.haproxy.applying import (
    HTTP,
    TCP,
    Load,
    Origins,
    Running,
    Session,
    Stand,
    answers,
    applying,
    cleared,
    origins,
)
from tests.waiting import eventually


@pytest.fixture
async def stand(haproxy: HaproxyBinary, tmp_path: Path) -> AsyncIterator[Stand]:
    async with cleared(Stand(tmp_path, haproxy.path)) as stand:
        yield stand


@pytest.fixture
async def backs() -> AsyncIterator[Origins]:
    async with origins() as found:
        yield found


@pytest.fixture
def old(haproxy: HaproxyBinary) -> bool:
    """Whether this is a HAProxy that cannot delete servers, nor give them a cookie."""
    return haproxy.version < (2, 8)


T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], holds: Callable[[T], bool], limit: float = 20.0) -> None:
    """Looks until that holds: HAProxy sends no event."""
    async with asyncio.timeout(limit):
        while not holds(await look()):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def serves(running: Running, service: str, names: set[str]) -> None:
    """Waits until exactly these origins answer."""
    await until(lambda: answers(running.stand.ports[service]), lambda found: found == names)


async def servers(stand: Stand, backend: str = "web") -> dict[str, tuple[Admin, int]]:
    link = await stand.link()
    found = link.running.backends[backend].servers if backend in link.running.backends else {}
    link.close()
    return {name.split("_")[0]: (one.admin, one.weight) for name, one in found.items()}


# -- membership


async def test_nothing_is_touched_before_the_first_catalog(stand: Stand, backs: Origins) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await asyncio.sleep(0.05)
        assert not stand.place.config.exists()
        await running.apply(web=await backs.start("a", "b"))
        assert await answers(stand.ports["web"]) == {"a", "b"}
        await stand.master()
    assert stand.masters() == []
    assert not accepts(stand.ports["web"])


async def test_servers_come_and_go_without_a_reload(stand: Stand, backs: Origins) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        for names in (("a",), ("a", "b"), ("b",), ("b", "c", "d"), ("a", "d"), ("a", "b", "c", "d"), (), ("c",)):
            await running.apply(web=await backs.start(*names))
            assert await answers(stand.ports["web"]) == set(names or ("",))
        assert running.applier.reloads == 0
        await running.until(lambda: "server c_127" in stand.file() and "server a_127" not in stand.file(), "the file")


async def test_the_file_that_follows_starts_the_same_servers(stand: Stand, backs: Origins) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a", "b"))
        await running.apply(web=await backs.start("b", "c"))
    one = process.start(stand.binary, stand.place)
    await running_link(stand)
    assert await answers(stand.ports["web"]) == {"b", "c"}
    await process.stop(one, stand.place, 0.1)


async def running_link(stand: Stand) -> None:
    async with asyncio.timeout(10):
        while not accepts(stand.ports["web"]):  # noqa: ASYNC110 - a process without an event
            await asyncio.sleep(0.01)


async def test_weights_are_changed_by_commands(stand: Stand, backs: Origins) -> None:
    settings = stand.settings({"web": stand.service("web")}, use_nerve_weights=True)
    async with applying(stand, settings) as running:
        await running.apply(web=[*await backs.start("a", weight=10), *await backs.start("b", weight=20)])
        await running.apply(web=[*await backs.start("a", weight=30), *await backs.start("b", weight=20)])
        assert await servers(stand) == {"a": (Admin.READY, 30), "b": (Admin.READY, 20)}
        assert running.applier.reloads == 0


async def test_other_options_of_a_server_that_stays(stand: Stand, backs: Origins, old: bool) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a", "b"))
        changed = [
            *await backs.start("a", haproxy_server_options="maxconn 7"),
            *await backs.start("b"),
        ]
        await running.apply(web=changed)
        assert running.applier.reloads == (1 if old else 0)
        assert await answers(stand.ports["web"]) == {"a", "b"}
        await running.until(lambda: "maxconn 7" in stand.file(), "the file follows")


async def test_a_server_with_connections_that_is_to_change_gets_a_reload_in_the_end(
    stand: Stand, backs: Origins
) -> None:
    async with applying(stand, stand.settings({"db": stand.service("db", TCP)})) as running:
        await running.apply(db=await backs.start("a"))
        session = await Session.open(stand.ports["db"])
        assert await session.ask() == "a"
        await running.apply(db=await backs.start("a", "b"))
        changed = [*await backs.start("a", haproxy_server_options="maxconn 7"), *await backs.start("b")]
        await running.apply(db=changed, limit=15)
        assert running.applier.reloads == 1
        assert await session.ask() == "a"
        session.close()


async def test_a_change_that_was_not_possible_yet_may_be_taken_back(stand: Stand, backs: Origins) -> None:
    async with applying(stand, stand.settings({"db": stand.service("db", TCP)})) as running:
        await running.apply(db=await backs.start("a"))
        session = await Session.open(stand.ports["db"])
        assert await session.ask() == "a"
        await running.apply(db=await backs.start("a", "b"))
        count = len(stand.told.of(Applied))
        running.put(db=[*await backs.start("a", haproxy_server_options="maxconn 7"), *await backs.start("b")])
        await running.until(lambda: len(stand.told.of(Applied)) > count or running.applier.reloads > 0, "it is tried")
        await running.apply(db=await backs.start("a", "b"), limit=10)
        assert await session.ask() == "a"
        session.close()


async def test_a_tcp_session_outlives_the_departure_of_its_server(stand: Stand, backs: Origins, old: bool) -> None:
    async with applying(stand, stand.settings({"db": stand.service("db", TCP)})) as running:
        await running.apply(db=await backs.start("a", "b"))
        sessions = [await Session.open(stand.ports["db"]) for _ in range(2)]
        assert {await session.ask() for session in sessions} == {"a", "b"}
        await running.apply(db=await backs.start("b"))
        assert (await servers(stand, "db"))["a"][0] is Admin.DRAIN
        assert await answers(stand.ports["db"]) == {"b"}
        assert {await session.ask() for session in sessions} == {"a", "b"}
        await asyncio.sleep(1.2)  # a first look at it is taken meanwhile
        assert (await servers(stand, "db"))["a"][0] is Admin.DRAIN
        for session in sessions:
            session.close()
        await until(lambda: servers(stand, "db"), lambda one: one.get("a") == ((Admin.MAINT, 1) if old else None))
        await running.apply(db=await backs.start("a", "b"))
        assert await answers(stand.ports["db"]) == {"a", "b"}
        assert running.applier.reloads == 0


@pytest.mark.parametrize("limit", [0.0, 0.5])
async def test_sessions_of_a_server_that_left_are_cut_at_the_limit(stand: Stand, backs: Origins, limit: float) -> None:
    options = replace(stand.options, removal=limit)
    async with applying(stand, stand.settings({"db": stand.service("db", TCP)}), options=options) as running:
        await running.apply(db=await backs.start("a", "b"))
        sessions = [await Session.open(stand.ports["db"]) for _ in range(2)]
        assert {await session.ask() for session in sessions} == {"a", "b"}
        await running.apply(db=await backs.start("b"))
        ended = [asyncio.create_task(session.ended()) for session in sessions]
        await eventually(lambda: any(task.done() for task in ended), "the session of the server that left is cut")
        assert [task.done() for task in ended].count(True) == 1
        assert (await servers(stand, "db")).get("a", (Admin.MAINT,))[0] is Admin.MAINT
        assert await answers(stand.ports["db"]) == {"b"}
        assert running.applier.reloads == 0
        for task in ended:
            task.cancel()
        for session in sessions:
            session.close()


async def test_a_burst_is_applied_as_the_newest_state(stand: Stand, backs: Origins) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a"))
        before = len(stand.told.of(Applied))
        for number in range(200):
            running.put(web=await backs.start(*("a", "b", "c")[: number % 3 + 1]))
        await running.apply(web=await backs.start("a", "b", "c"))
        assert await answers(stand.ports["web"]) == {"a", "b", "c"}
        assert len(stand.told.of(Applied)) - before < 20
        assert running.applier.reloads == 0


async def test_churn_under_load_fails_nothing_and_leaves_nothing(
    stand: Stand, backs: Origins, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockstack.synapse.haproxy.collect.SELDOMEST", 1.0)  # idle connections end after 5 s
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        (a,) = await backs.start("a")
        (b,) = await backs.start("b")
        await running.apply(web=[a])
        async with Load(stand.ports["web"]) as load:
            for number in range(100):
                await running.apply(web=[a, replace(b, name=f"b{number}")])
                await load.more(2)
        assert (load.bad, running.applier.reloads) == (0, 0)
        gone = [name for name, one in (await servers(stand)).items() if one[0] is not Admin.READY]
        if old:
            assert len(gone) == 99  # until the next reload: deleting them could crash it
        else:
            await until(lambda: servers(stand), lambda now: set(now) == {"a", "b99"})


async def test_five_hundred_at_once(stand: Stand, backs: Origins) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        (a,) = await backs.start("a")
        await running.apply(web=[a])
        many = [a, *(Instance(f"127.0.{number // 200}.{number % 200 + 1}", 9, "x", id=number) for number in range(500))]
        await running.apply(web=many)
        assert len(await servers(stand)) == 2
        assert running.applier.reloads == 0
        link = await stand.link()
        assert sum(one.admin is Admin.READY for one in link.running.backends["web"].servers.values()) == 501
        link.close()


async def test_a_dead_host_name_is_left_out_and_a_good_one_is_resolved(stand: Stand, backs: Origins) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        (a,) = await backs.start("a")
        (b,) = await backs.start("b")
        named = [a, replace(b, host="localhost"), replace(b, host="no-such-host.invalid", name="c")]
        running.put(web=named)
        await serves(running, "web", {"a", "b"})
        await running.until(lambda: "no-such-host.invalid cannot be resolved" in stand.told.texts(), "told")
        await running.until(lambda: f"server b_localhost:{b.port} 127.0.0.1:{b.port}" in stand.file(), "the file")
        assert running.applier.reloads == 0


# -- reloads


async def test_a_fixed_table_needs_a_reload_and_their_rate_is_limited(stand: Stand, backs: Origins) -> None:
    service = stand.service("web", ("mode http", "balance static-rr"))
    async with applying(stand, stand.settings({"web": service}, restart_interval=2.0)) as running:
        await running.apply(web=await backs.start("a"))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await running.apply(web=await backs.start("a", "b"))
        assert loop.time() - begun < 1.8  # the first is made at once
        for name in "cdefg":
            running.put(web=await backs.start("a", "b", name))
            await asyncio.sleep(0.02)
        await running.applied()
        assert running.applier.reloads == 2
        assert loop.time() - begun > 1.8
        assert await answers(stand.ports["web"]) == {"a", "b", "g"}


async def test_changes_during_reloads_are_not_lost(stand: Stand, backs: Origins) -> None:
    services = {"web": stand.service("web"), "fixed": stand.service("fixed", ("mode http", "balance static-rr"))}
    async with applying(stand, stand.settings(services, restart_interval=0.0)) as running:
        await running.apply(web=await backs.start("a"), fixed=await backs.start("a"))
        names, number = ["a"], 0
        async with asyncio.timeout(60):
            while number < 60 or running.applier.reloads < 3:
                names = [*(f"o{one}" for one in range(number % 7)), "a"]
                running.put(web=await backs.start(*names), fixed=await backs.start("a", f"f{number % 2}"))
                await asyncio.sleep(0.01)
                number += 1
        await running.applied()
        assert await answers(stand.ports["web"], 30) == set(names)
        link = await stand.link()
        ready = {name for name, one in link.running.backends["web"].servers.items() if one.admin is Admin.READY}
        assert {name.split("_")[0] for name in ready} == set(names)
        link.close()


async def test_a_reload_that_is_needed_no_more_is_not_made(stand: Stand, backs: Origins) -> None:
    begun = stand.directory / "check-begun"
    services = {"web": stand.service("web"), "fixed": stand.service("fixed", ("mode http", "balance static-rr"))}
    settings = stand.settings(services, do_checks=True, check_command=f"touch {begun}; sleep 0.4")
    async with applying(stand, settings) as running:
        await running.apply(web=await backs.start("a"), fixed=await backs.start("a"))
        begun.unlink()
        running.put(fixed=await backs.start("a", "b"))
        await running.until(begun.exists, "the check has begun")
        haproxy = await stand.master()
        os.kill(haproxy, signal.SIGKILL)  # the next one is started with all that is wanted
        await running.applied()
        assert await answers(stand.ports["fixed"]) == {"a", "b"}
        await running.apply(web=await backs.start("a", "c"))
        assert running.applier.reloads == 0


async def test_reloads_lose_no_new_connection(stand: Stand, backs: Origins) -> None:
    services = {"web": stand.service("web"), "fixed": stand.service("fixed", ("mode http", "balance static-rr"))}
    async with applying(stand, stand.settings(services, restart_interval=0.0)) as running:
        await running.apply(web=await backs.start("a", "b"), fixed=await backs.start("a"))
        async with Load(stand.ports["web"]) as load:
            for number in range(10):
                await running.apply(fixed=await backs.start("a", f"f{number}"))
                await load.more(20)
        assert running.applier.reloads == 10
        assert (load.bad, load.good > 200) == (0, True)


async def test_a_cookie_is_a_reload_where_it_cannot_be_added(stand: Stand, backs: Origins, old: bool) -> None:
    service = stand.service("web", (*HTTP, "cookie SRV insert indirect nocache"))
    async with applying(stand, stand.settings({"web": service})) as running:
        await running.apply(web=await backs.start("a"))
        await running.apply(web=await backs.start("a", "b"))
        assert running.applier.reloads == (1 if old else 0)
        assert await answers(stand.ports["web"]) == {"a", "b"}


async def test_a_server_that_haproxy_does_not_take_is_left_out_by_name(stand: Stand, backs: Origins) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a"))
        bad = await backs.start("bad", haproxy_server_options="nonsense here")
        await running.apply(web=[*await backs.start("a", "b"), *bad])
        assert await answers(stand.ports["web"]) == {"a", "b"}
        (told,) = stand.told.of(ServerRefused)
        assert "nonsense" in str(told)
        await running.apply(web=[*await backs.start("a", "b", "c"), *bad])
        await running.until(lambda: "server c_" in stand.file(), "the file follows")
        assert "nonsense" not in stand.file()
        assert running.applier.reloads <= 1
        await running.apply(web=await backs.start("a", "bad"))
        assert await answers(stand.ports["web"]) == {"a", "bad"}


@pytest.mark.parametrize("options", ["resolvers nobody", "redir /x", "ssl force-tlsv12 no-tlsv12"])
async def test_a_registration_whose_fault_haproxy_hides_takes_nobody_else_along(
    stand: Stand, backs: Origins, options: str
) -> None:
    """HAProxy names the server in another form, the backend alone, and nobody at all."""
    services = {"db": stand.service("db", TCP), "other": stand.service("other")}
    async with applying(stand, stand.settings(services)) as running:
        await running.apply(db=await backs.start("a"), other=await backs.start("o"))
        bad = await backs.start("bad", haproxy_server_options=options)
        running.put(db=[*await backs.start("a", "b"), *bad])
        more = stand.settings({"other": stand.service("other", (*HTTP, "option httpclose"))})
        running.picture = running.picture.with_service("other", more.services["other"])
        running.put()
        await running.until(lambda: "httpclose" in stand.file(), "the reload that another service needs")
        await running.applied()
        assert await answers(stand.ports["db"]) == {"a", "b"}
        assert await answers(stand.ports["other"]) == {"o"}
        assert stand.told.of(ServiceRefused) == []
        assert [one for one in running.applier.trouble if "bad_127" not in one] == []
        assert len(stand.told.of(ServerRefused)) == 1


@pytest.mark.parametrize("options", ["chekc inter 5s", 'check "', "track nobody/x", "cookie a;b check"])
async def test_registrations_that_cannot_be_served_do_not_empty_a_backend(
    stand: Stand, backs: Origins, options: str
) -> None:
    good = "cookie" in options  # HAProxy takes that one from a file
    async with applying(stand, stand.settings({"web": stand.service("web", TCP)})) as running:
        await running.apply(web=await backs.start("a", "b"))
        async with Load(stand.ports["web"]) as load:
            (bad,) = await backs.start("x", haproxy_server_options=options)
            await running.apply(web=[bad, *await backs.start("b")])
            await running.apply(web=[bad])
            await serves(running, "web", {"x"} if good else {"b"})
            await load.more(20)
            said = "service web: no instance that is registered can be served; the 1 of before stay in service"
            assert (said in running.applier.trouble) is not good
            assert running.applier.reloads == int(good)
            await running.apply(web=await backs.start("c"))
            await serves(running, "web", {"c"})
        assert load.bad == 0
        assert running.applier.trouble == ()


async def test_a_restart_with_registrations_that_cannot_be_served_keeps_what_serves(
    stand: Stand, backs: Origins
) -> None:
    settings = stand.settings({"web": stand.service("web")})
    async with applying(stand, settings, leave=True) as running:
        await running.apply(web=await backs.start("a", "b"))
        await running.until(lambda: "server b_" in stand.file(), "the file follows")
    async with Load(stand.ports["web"]) as load, applying(stand, settings) as running:
        await running.apply(web=await backs.start("x", haproxy_server_options='check "'))
        await serves(running, "web", {"a", "b"})
        assert running.applier.reloads == 0
        assert load.bad == 0
        await process.end(process.ours(stand.place.master_socket), gently=False)
        await running.until(lambda: bool(stand.told.of(HaproxyEnded)), "ended")
        await serves(running, "web", {"a", "b"})


async def test_it_starts_without_a_server_that_haproxy_does_not_take(stand: Stand, backs: Origins) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        bad = await backs.start("bad", haproxy_server_options="nonsense here")
        await running.apply(web=[*await backs.start("a"), *bad])
        assert await answers(stand.ports["web"]) == {"a"}


async def test_a_service_that_haproxy_does_not_take_leaves_the_others_alone(stand: Stand, backs: Origins) -> None:
    wrong = stand.service("bad", (*HTTP, "timeout server soon"))
    async with applying(stand, stand.settings({"web": stand.service("web"), "bad": wrong})) as running:
        await running.apply(web=await backs.start("a"), bad=await backs.start("b"))
        await serves(running, "web", {"a"})
        (told,) = stand.told.of(ServiceRefused)
        assert str(told).startswith("service bad: HAProxy does not take its settings, the service is left out: ")
        assert str(told).endswith("(the line is: timeout server soon)")
        assert str(told) in running.applier.trouble
        assert stand.told.of(CandidateRefused) == []
        assert "soon" not in stand.file()
        assert running.applier.ready

        # Others come and go without it; with other settings it is tried again.
        await running.apply(web=await backs.start("a", "c"), bad=await backs.start("b", "d"))
        assert running.applier.reloads == 0
        good = stand.settings({"web": stand.service("web"), "bad": stand.service("bad")})
        running.picture = running.picture.with_service("bad", good.services["bad"])
        running.put()
        await running.applied()
        await serves(running, "bad", {"b", "d"})
        assert running.applier.trouble == ()
        assert running.applier.reloads == 1


async def test_a_service_whose_new_settings_haproxy_does_not_take_keeps_the_old_ones(
    stand: Stand, backs: Origins
) -> None:
    services = {"web": stand.service("web"), "other": stand.service("other")}
    async with applying(stand, stand.settings(services)) as running:
        await running.apply(web=await backs.start("a"), other=await backs.start("b"))
        wrong = stand.settings({"web": stand.service("web", (*HTTP, "balance nonsense"))})
        running.picture = running.picture.with_service("web", wrong.services["web"])
        running.put()
        await running.until(lambda: bool(stand.told.of(ServiceRefused)), "refused")
        await running.applied()
        assert "the last that it took are in use" in running.applier.trouble[0]
        assert running.applier.reloads == 0
        await running.apply(web=await backs.start("a", "c"))
        await serves(running, "web", {"a", "c"})
        assert "nonsense" not in stand.file()
        # What else changes needs a reload, and gets it.
        more = stand.settings({"other": stand.service("other", (*HTTP, "option httpclose"))})
        running.picture = running.picture.with_service("other", more.services["other"])
        running.put()
        await running.applied()
        assert running.applier.reloads == 1
        assert len(stand.told.of(ServiceRefused)) == 1
        await serves(running, "web", {"a", "c"})


async def test_a_file_that_was_missing_is_looked_for_again_when_the_settings_are_read_again(
    stand: Stand, backs: Origins
) -> None:
    page = stand.directory / "sorry.http"
    services = {"web": stand.service("web"), "bad": stand.service("bad", (*HTTP, f"errorfile 503 {page}"))}
    async with applying(stand, stand.settings(services)) as running:
        await running.apply(web=await backs.start("a"), bad=await backs.start("b"))
        assert str(page) in running.applier.trouble[0]
        page.write_text("HTTP/1.0 503 Sorry\r\nContent-Length: 0\r\n\r\n")
        running.picture = replace(running.picture, layout=replace(running.picture.layout))
        await running.apply(web=await backs.start("a"))
        await serves(running, "bad", {"b"})
        assert running.applier.trouble == ()


async def test_a_restart_with_settings_that_haproxy_does_not_take_leaves_what_it_runs(
    stand: Stand, backs: Origins
) -> None:
    services = {"web": stand.service("web"), "other": stand.service("other")}
    async with applying(stand, stand.settings(services), leave=True) as running:
        await running.apply(web=await backs.start("a"), other=await backs.start("b"))
    services["web"] = stand.service("web", (*HTTP, "balance nonsense"))
    async with applying(stand, stand.settings(services)) as running:
        await running.apply(web=await backs.start("a", "c"), other=await backs.start("b"))
        await running.until(lambda: bool(stand.told.of(ServiceRefused)), "refused")
        await running.applied()
        await serves(running, "web", {"a", "c"})
        assert running.applier.reloads == 0
        assert "the last that it took are in use" in running.applier.trouble[0]


async def test_a_refused_structure_leaves_the_old_one_and_its_servers_are_kept_up(stand: Stand, backs: Origins) -> None:
    services = {"web": stand.service("web")}
    async with applying(stand, stand.settings(services), leave=True) as running:
        await running.apply(web=await backs.start("a"))
    before = stand.file()
    wrong = stand.settings(services, extra_sections={"backend other": ["frobnicate 7"]})
    async with applying(stand, wrong) as running:
        running.put(web=await backs.start("a"))
        await running.until(lambda: bool(stand.told.of(CandidateRefused)), "refused")
        assert "unknown keyword 'frobnicate'" in str(stand.told.of(CandidateRefused)[0])
        running.put(web=await backs.start("a", "b"))
        await serves(running, "web", {"a", "b"})
        assert stand.file().count("frobnicate") == 0
        await running.until(lambda: "server b_" in stand.file(), "the file follows")
        assert [line for line in stand.file().splitlines() if "server b_" not in line] == before.splitlines()
        assert not running.applier.ready
        assert running.applier.reloads == 0


async def test_a_candidate_that_cannot_be_written_is_no_refusal_of_haproxy(stand: Stand, backs: Origins) -> None:
    services = {"web": stand.service("web")}
    candidate = stand.directory / "candidate"
    async with applying(
        stand, stand.settings(services, candidate_config_file_path=str(candidate)), leave=True
    ) as running:
        await running.apply(web=await backs.start("a"))
    candidate.mkdir()  # whoever runs the tests, root included, cannot replace a directory by a file
    (candidate / "full").touch()
    more = {**services, "db": stand.service("db", TCP)}
    async with applying(stand, stand.settings(more, candidate_config_file_path=str(candidate))) as running:
        running.put(web=await backs.start("a"), db=await backs.start("b"))
        await running.until(lambda: bool(stand.told.of(CandidateRefused)), "told")
        (told,) = map(str, stand.told.of(CandidateRefused))
        assert told.startswith("the disk refuses")
        assert f"{candidate} cannot be written: Is a directory" in told
        (candidate / "full").unlink()
        candidate.rmdir()
        await serves(running, "db", {"b"})


async def test_a_master_socket_that_was_deleted_does_not_hold_up_reloads(stand: Stand, backs: Origins) -> None:
    service = stand.service("web", ("mode http", "balance static-rr"))
    async with applying(stand, stand.settings({"web": service})) as running:
        await running.apply(web=await backs.start("a"))
        haproxy = await stand.master()
        await master.processes(stand.place.master_socket, 5)  # at its start it makes the socket twice
        stand.place.master_socket.unlink()
        for names in ("ab", "abc"):
            await running.apply(web=await backs.start(*names), limit=20)
            assert await answers(stand.ports["web"]) == {*names}
        assert running.applier.reloads == 2
        assert await stand.master() == haproxy
        assert stand.told.texts().count("is gone: HAProxy") == 1


async def test_a_reload_that_is_refused_leaves_the_old_file_and_worker(stand: Stand, backs: Origins, old: bool) -> None:
    """Neither the check nor a look at the address can see that a socket cannot be made; the new worker does."""
    services = {"web": stand.service("web")}
    async with applying(stand, stand.settings(services)) as running:
        await running.apply(web=await backs.start("a"))
        before = stand.file()
        more = stand.service("more")
        more["haproxy"] |= {"port": None, "bind_address": str(stand.directory / "missing" / "more.sock")}
        running.picture = replace(running.picture, services=stand.settings(services | {"more": more}).services)
        running.put(web=await backs.start("a", "b"))
        await running.until(lambda: bool(stand.told.of(CandidateRefused)), "refused")
        await serves(running, "web", {"a", "b"})
        await running.until(lambda: "server b_" in stand.file(), "the file follows")
        assert [line for line in stand.file().splitlines() if "server b_" not in line] == before.splitlines()
        assert running.applier.reloads == 0
        if not old:  # from 2.7 on it says why
            await running.until(lambda: bool(stand.told.of(ServiceRefused)), "the service is named")
            services["other"] = stand.service("other")
            running.picture = replace(running.picture, services=stand.settings(services | {"more": more}).services)
            await running.apply(other=await backs.start("c"))
            await serves(running, "other", {"c"})
            assert len(stand.told.of(CandidateRefused)) == 1
        more = stand.service("more")
        running.picture = replace(running.picture, services=stand.settings(services | {"more": more}).services)
        await running.apply(more=await backs.start("c"))
        assert await answers(stand.ports["more"]) == {"c"}
        assert running.applier.trouble == ()


async def test_an_address_that_somebody_else_holds_takes_nobody_else_along(
    stand: Stand, backs: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HAProxy's check does not see it, and the worker would refuse everybody's connections while it tries."""
    monkeypatch.setattr(reload, "_MISSED_AGAIN", 0.2)
    services = {"web": stand.service("web")}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with applying(stand, stand.settings(services)) as running:
            await running.apply(web=await backs.start("a"))
            stand.ports["bad"] = taken.getsockname()[1]
            services |= {"bad": stand.service("bad"), "good": stand.service("good")}
            running.picture = replace(running.picture, services=stand.settings(services).services)
            async with Load(stand.ports["web"]) as load:
                running.put(bad=await backs.start("b"), good=await backs.start("c"))
                await serves(running, "good", {"c"})
                await running.applied()
                await load.more(50)
            assert load.bad == 0
            where = f"127.0.0.1:{stand.ports['bad']}"
            assert "\n".join(running.applier.trouble) == (
                "service bad: its address cannot be had, the service is left out: "
                f"{where} cannot be listened on: another program holds it"
            )
            assert (running.applier.reloads, stand.told.of(CandidateRefused)) == (1, [])
            taken.close()
            await serves(running, "bad", {"b"})
            await running.applied()
            assert running.applier.reloads == 2
            await running.until(lambda: running.applier.trouble == (), "all is well")


async def test_it_starts_without_a_service_whose_address_somebody_else_holds(
    stand: Stand, backs: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "_MISSED_AGAIN", 0.2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        stand.ports["bad"] = taken.getsockname()[1]
        services = {"web": stand.service("web"), "bad": stand.service("bad")}
        async with applying(stand, stand.settings(services)) as running:
            running.put(web=await backs.start("a"), bad=await backs.start("b"))
            await serves(running, "web", {"a"})
            await running.applied()
            assert stand.told.of(HaproxyEnded) == []
            taken.close()
            await serves(running, "bad", {"b"})


async def test_a_service_that_moves_to_an_address_that_somebody_else_holds_stays_where_it_is(
    stand: Stand, backs: Origins
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
            await running.apply(web=await backs.start("a"))
            moved = stand.service("web")
            moved["haproxy"]["port"] = taken.getsockname()[1]
            running.picture = replace(running.picture, services=stand.settings({"web": moved}).services)
            await running.apply(web=await backs.start("a", "b"))
            await serves(running, "web", {"a", "b"})
            assert "its address cannot be had, the last that it took are in use" in running.applier.trouble[0]
            assert running.applier.reloads == 0


async def test_an_address_of_no_service_that_somebody_else_holds_is_not_loaded(stand: Stand, backs: Origins) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        services = {"web": stand.service("web")}
        async with applying(stand, stand.settings(services)) as running:
            await running.apply(web=await backs.start("a"))
            stats = {"listen stats": ["mode http", f"bind 127.0.0.1:{taken.getsockname()[1]}"]}
            top = stand.settings(services, extra_sections=stats).haproxy
            assert top is not None
            layout = layout_of(top, stand.options)
            async with Load(stand.ports["web"]) as load:
                running.picture = replace(running.picture, layout=layout)
                running.put(web=await backs.start("a", "b"))
                await running.until(lambda: bool(stand.told.of(CandidateRefused)), "refused")
                await serves(running, "web", {"a", "b"})
            assert load.bad == 0
            assert "another program holds it" in "\n".join(running.applier.trouble)


async def test_what_changes_during_the_check_is_in_the_file_that_is_loaded(stand: Stand, backs: Origins) -> None:
    services = {"web": stand.service("web"), "fixed": stand.service("fixed", ("mode http", "balance static-rr"))}
    slow = stand.settings(services, do_checks=True, check_command="sleep 0.5")
    async with applying(stand, slow) as running:
        await running.apply(web=await backs.start("a", "b"), fixed=await backs.start("a"))
        running.put(fixed=await backs.start("a", "f"))
        await asyncio.sleep(0.1)
        files: list[str] = []
        stand.told.listeners.append(lambda event: files.append(stand.file()) if isinstance(event, Reloaded) else None)
        running.put(web=await backs.start("b", "c"))
        await running.applied()
        assert len(files) == running.applier.reloads == 1
        web = next(part for part in files[0].split("# service ") if part.startswith("web"))
        assert ["server a_" in web, "server b_" in web, "server c_" in web] == [False, True, True]


async def test_a_refused_first_configuration_is_told_and_not_served(stand: Stand, backs: Origins) -> None:
    wrong = stand.settings({"web": stand.service("web")}, extra_sections={"backend other": ["frobnicate 7"]})
    async with applying(stand, wrong) as running:
        running.put(web=await backs.start("a"))
        await running.until(lambda: bool(stand.told.of(CandidateRefused)), "refused")
        assert stand.masters() == []
        assert any("frobnicate" in line for line in running.applier.trouble)
        assert not stand.place.config.exists()


async def test_the_last_good_file_serves_when_the_new_one_is_refused_at_a_start(stand: Stand, backs: Origins) -> None:
    services = {"web": stand.service("web")}
    async with applying(stand, stand.settings(services)) as running:
        await running.apply(web=await backs.start("a"))
    wrong = stand.settings(services, extra_sections={"backend other": ["frobnicate 7"]})
    async with applying(stand, wrong) as running:
        running.put(web=await backs.start("a", "b"))
        await serves(running, "web", {"a", "b"})


async def test_services_come_and_go_and_move_with_one_reload_each(stand: Stand, backs: Origins) -> None:
    services = {"web": stand.service("web", TCP), "old": stand.service("old")}
    async with applying(stand, stand.settings(services)) as running:
        await running.apply(web=await backs.start("a"), old=await backs.start("b"))
        session = await Session.open(stand.ports["web"])
        assert await session.ask() == "a"
        del services["old"]
        services["new"] = stand.service("new")
        moved = stand.ports["web"] = free_port()
        services["web"] = stand.service("web", TCP)
        running.picture = replace(running.picture, services=stand.settings(services).services)
        await running.apply(new=await backs.start("c"))
        assert running.applier.reloads == 1
        assert await answers(moved) == {"a"}
        assert await answers(stand.ports["new"]) == {"c"}
        assert not accepts(stand.ports["old"])
        assert await session.ask() == "a"
        session.close()
        await running.apply(new=await backs.start("c", "d"))
        assert await answers(stand.ports["new"]) == {"c", "d"}
        assert running.applier.reloads == 1


# -- HAProxy ends, or somebody else touches it


@pytest.mark.parametrize("victim", ["master", "worker"])
async def test_a_haproxy_that_is_killed_is_started_again(stand: Stand, backs: Origins, victim: str) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a"))
        await running.apply(web=await backs.start("a", "b"))
        for _ in range(3):
            tree = await master.processes(stand.place.master_socket, 5)
            count = len(stand.told.of(HaproxyEnded))
            os.kill(tree.master if victim == "master" else tree.workers[0], signal.SIGKILL)
            await running.until(lambda c=count: len(stand.told.of(HaproxyEnded)) > c, "its end is noticed")
            await running.applied()
            assert await answers(stand.ports["web"]) == {"a", "b"}
            await stand.master()
            again = [str(one) for one in stand.told.of(Note) if "wanted again, after" in str(one)]
            assert len(again) == count + 1
        await running.apply(web=await backs.start("b", "c"))
        assert await answers(stand.ports["web"]) == {"b", "c"}


async def test_a_worker_that_is_deaf_for_a_moment_is_left_alone(
    stand: Stand, backs: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be swapped out, or stopped by a debugger; its sessions are worth more than a moment."""
    monkeypatch.setattr(link, "LIMIT", 0.2)
    monkeypatch.setattr(apply, "_DEAF", 1.5)
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a"))
        haproxy = await stand.master()
        (worker,) = (pid for pid in process.ours(stand.place.master_socket) if pid != haproxy)
        await asyncio.sleep(1.6)  # it is older than the time that it may be deaf
        os.kill(worker, signal.SIGSTOP)
        try:
            running.put(web=await backs.start("a", "b"))
            await running.until(lambda: "did not answer" in stand.told.texts(), "deaf")
            await running.until(lambda: "no HAProxy answers on" in str(running.applier.trouble), "tried again")
            await asyncio.sleep(0.6)
        finally:
            os.kill(worker, signal.SIGCONT)
        await running.applied()
        await serves(running, "web", {"a", "b"})
        assert await stand.master() == haproxy


async def test_a_worker_that_stays_deaf_is_replaced(
    stand: Stand, backs: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LIMIT", 0.2)
    monkeypatch.setattr(apply, "_DEAF", 0.5)
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a"))
        haproxy = await stand.master()
        (worker,) = (pid for pid in process.ours(stand.place.master_socket) if pid != haproxy)
        os.kill(worker, signal.SIGSTOP)
        await running.apply(web=await backs.start("a", "b"))
        await serves(running, "web", {"a", "b"})
        assert worker not in process.ours(stand.place.master_socket)
        assert await stand.master() != haproxy


async def test_a_haproxy_that_is_slow_to_answer_is_given_more_time(
    stand: Stand, backs: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "_TRY", 0.0001)  # no HAProxy is that quick
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a"), limit=12)
        assert not stand.told.of(HaproxyEnded)


async def test_a_haproxy_that_dies_in_a_reload_is_started_again(stand: Stand, backs: Origins) -> None:
    service = stand.service("web", ("mode http", "balance static-rr"))
    async with applying(stand, stand.settings({"web": service}, restart_interval=0.0)) as running:
        await running.apply(web=await backs.start("a"))
        for number in range(4):
            tree = await master.processes(stand.place.master_socket, 5)
            running.put(web=await backs.start("a", f"o{number}"))
            await asyncio.sleep(0.012 * number)
            os.kill(tree.master, signal.SIGKILL)
            await running.until(lambda n=number: len(stand.told.of(HaproxyEnded)) > n, "its end is noticed")
            await running.applied()
            assert await answers(stand.ports["web"]) == {"a", f"o{number}"}
            await stand.master()


async def test_a_master_that_cannot_be_asked_does_not_stop_the_changes(
    stand: Stand, backs: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master, "CONTACT", 0.2)
    services = {"web": stand.service("web"), "fixed": stand.service("fixed", ("mode http", "balance static-rr"))}
    async with applying(stand, stand.settings(services)) as running:
        await running.apply(web=await backs.start("a"), fixed=await backs.start("a"))
        await master.processes(stand.place.master_socket, 5)  # at its start it makes the socket twice
        away = stand.place.master_socket.rename(stand.directory / "away.sock")
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind(str(stand.place.master_socket))
        running.put(fixed=await backs.start("a", "b"))
        await running.until(lambda: "did not answer `show proc`" in stand.told.texts(), "the failure is told")
        running.put(web=await backs.start("a", "c"))
        await serves(running, "web", {"a", "c"})
        away.rename(stand.place.master_socket)
        await running.applied(20)
        assert await answers(stand.ports["fixed"]) == {"a", "b"}
        assert running.applier.reloads == 1


@pytest.mark.parametrize("names", [("c",), ("a", "b", "c")])
async def test_a_reload_by_somebody_else_is_noticed_after_the_next_change(
    stand: Stand, backs: Origins, names: tuple[str, ...]
) -> None:
    """The retired worker takes an addition, and refuses what follows it."""
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a"))
        await running.apply(web=await backs.start("a", "b"))
        await running.until(lambda: "server b_" in stand.file(), "the file follows")
        assert (await master.reload(stand.place.master_socket, 5)).accepted
        running.put(web=await backs.start(*names))
        await serves(running, "web", set(names))
        await stand.master()
        assert running.applier.reloads == 0


async def test_what_is_changed_by_hand_is_put_right(
    stand: Stand, backs: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockstack.synapse.haproxy.seat.AUDIT", 0.2)
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a", "b", "c"))
        link = await stand.link()
        names = {name.split("_")[0]: name for name in link.running.backends["web"].servers}
        await link.ask(
            [
                f"set server web/{names['a']} state maint",
                f"set server web/{names['b']} weight 77",
                "add server web/alien 127.0.0.1:9 id 999",
                "enable server web/alien",
            ]
        )
        link.close()
        wanted = {"a": (Admin.READY, 1), "b": (Admin.READY, 1), "c": (Admin.READY, 1)}
        await until(
            lambda: servers(stand),
            lambda now: {name: one for name, one in now.items() if one[0] is Admin.READY} == wanted,
        )
        assert running.applier.repaired >= 3
        assert stand.told.of(Repaired)
        assert running.applier.reloads == 0


@pytest.mark.parametrize("first", ["worker", "file", "file long before"])
async def test_a_file_that_is_edited_by_hand_and_loaded_is_put_right(
    stand: Stand, backs: Origins, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a", "b"))
        await running.until(stand.place.config.exists, "the file")
        before = stand.file()
        stand.place.config.write_text(before.replace("balance roundrobin", "balance leastconn\n\thttp-request deny"))
        assert (await master.reload(stand.place.master_socket, 5)).accepted
        # It may be put right before anybody has seen it.
        await until(lambda: answers(stand.ports["web"]), lambda found: found == {""} or running.applier.reloads > 0)
        (seat,) = running.applier._seats
        if first != "worker":
            with monkeypatch.context() as patch:
                if first != "file":
                    patch.setattr(Seat, "audit_soon", lambda _: None)
                running.applier._inspect_at = 0.0
                running.applier._wake.set()
                await running.until(lambda: stand.file() == before, "the file is as before")
        seat.audit_soon()
        running.applier._wake.set()
        await serves(running, "web", {"a", "b"})
        await running.applied()
        assert stand.file() == before
        assert running.applier.reloads == 1


async def test_a_lost_connection_is_made_again_without_any_change(stand: Stand, backs: Origins) -> None:
    async with applying(stand, stand.settings({"web": stand.service("web")})) as running:
        await running.apply(web=await backs.start("a"))
        seat: Seat = running.applier._seats[0]
        assert seat.link is not None
        seat.link.close()
        await running.apply(web=await backs.start("a", "b"))
        assert await answers(stand.ports["web"]) == {"a", "b"}
        assert running.applier.reloads == 0


# -- adoption


async def test_a_running_haproxy_is_adopted_as_it_is(stand: Stand, backs: Origins) -> None:
    settings = stand.settings({"web": stand.service("web")})
    async with applying(stand, settings, leave=True) as running:
        await running.apply(web=await backs.start("a", "b"))
        await running.apply(web=await backs.start("b", "c"))
        await running.until(lambda: "server c_" in stand.file(), "the file follows")
    before = await master.processes(stand.place.master_socket, 5)
    async with Load(stand.ports["web"]) as load:
        async with applying(stand, settings, leave=True) as running:
            await running.apply(web=await backs.start("b", "c"))
            await load.more(100)
            await serves(running, "web", {"b", "c"})
            assert await master.processes(stand.place.master_socket, 5) == before
        async with applying(stand, settings) as running:
            await running.apply(web=await backs.start("c", "d"))
            await load.more(100)
            await serves(running, "web", {"c", "d"})
            assert running.applier.reloads == 0
            assert (await master.processes(stand.place.master_socket, 5)).master == before.master
            await load.__aexit__()
        assert load.bad == 0


async def test_an_adopted_haproxy_with_another_structure_is_reloaded_once(stand: Stand, backs: Origins) -> None:
    services = {"web": stand.service("web")}
    async with applying(stand, stand.settings(services), leave=True) as running:
        await running.apply(web=await backs.start("a"))
    before = await stand.master()
    services["more"] = stand.service("more")
    async with applying(stand, stand.settings(services)) as running:
        await running.apply(web=await backs.start("a"), more=await backs.start("b"))
        assert await answers(stand.ports["more"]) == {"b"}
        assert await answers(stand.ports["web"]) == {"a"}
        assert running.applier.reloads == 1
        assert await stand.master() == before


async def test_a_file_ahead_of_the_process_means_a_reload(stand: Stand, backs: Origins) -> None:
    denying = stand.settings({"web": stand.service("web", (*HTTP, "http-request deny"))})
    good = stand.settings({"web": stand.service("web")})
    async with applying(stand, good) as running:
        await running.apply(web=await backs.start("a"))
        ahead = stand.file()
    async with applying(stand, denying, leave=True) as running:
        await running.apply(web=await backs.start("a"))
        await serves(running, "web", {""})
    stand.place.config.write_text(ahead)  # killed between the writing and the reload
    async with applying(stand, good) as running:
        await running.apply(web=await backs.start("a"))
        assert await answers(stand.ports["web"]) == {"a"}
        assert running.applier.reloads == 1


async def test_a_mark_that_an_earlier_file_left_behind_is_not_believed(stand: Stand, backs: Origins) -> None:
    """The master's environment, and so the mark, goes on to a worker whose file has none."""
    settings = stand.settings({"web": stand.service("web")})
    async with applying(stand, settings, leave=True) as running:
        await running.apply(web=await backs.start("a"))
        await running.until(lambda: "server a_" in stand.file(), "the file follows")
    ours = [line for line in stand.file().splitlines() if "DOCKSTACK_MARK" not in line]
    theirs = "\n".join(ours).replace("balance roundrobin", "balance roundrobin\n\thttp-request deny")
    stand.place.config.write_text(f"{theirs}\n")
    assert (await master.reload(stand.place.master_socket, 5)).accepted
    async with applying(stand, settings) as running:
        await running.apply(web=await backs.start("a"))
        assert await answers(stand.ports["web"]) == {"a"}
        assert running.applier.reloads == 1


async def test_servers_that_are_in_no_file_are_put_right(stand: Stand, backs: Origins) -> None:
    settings = stand.settings({"web": stand.service("web")})
    async with applying(stand, settings, leave=True) as running:
        await running.apply(web=await backs.start("a"))
        await running.until(lambda: "server a_" in stand.file(), "the file follows")
        early = stand.file()
        await running.apply(web=await backs.start("a", "b"))
        await running.until(lambda: "server b_" in stand.file(), "the file follows")
    stand.place.config.write_text(early)  # killed between the command and the writing
    async with applying(stand, settings) as running:
        await running.apply(web=await backs.start("a", "b"))
        assert await answers(stand.ports["web"]) == {"a", "b"}
        await running.until(lambda: "server b_" in stand.file(), "the file follows")
        link = await stand.link()
        assert len(link.running.backends["web"].servers) == 2
        link.close()


async def test_one_that_is_being_ended_is_not_adopted(stand: Stand, backs: Origins) -> None:
    """Synapse was killed between the two signals with which it ends HAProxy."""
    settings = stand.settings({"db": stand.service("db", TCP)})
    async with applying(stand, settings, leave=True) as running:
        await running.apply(db=await backs.start("a"))
        session = await Session.open(stand.ports["db"])
        assert await session.ask() == "a"
    before = (await master.processes(stand.place.master_socket, 5)).master  # one that does not answer loses signals
    os.kill(before, signal.SIGUSR1)
    await eventually(lambda: not accepts(stand.ports["db"]), "nobody listens")
    assert await stand.master() == before
    async with applying(stand, settings) as running:
        await running.apply(db=await backs.start("a", "b"))
        assert await answers(stand.ports["db"]) == {"a", "b"}
        assert await stand.master() != before
    session.close()


async def test_ids_of_running_servers_are_kept(stand: Stand, backs: Origins) -> None:
    settings = stand.settings({"web": stand.service("web")})
    async with applying(stand, settings, leave=True) as running:
        await running.apply(web=await backs.start("a", id=5))
        await running.until(lambda: " id 5" in stand.file(), "the file follows")
    async with applying(stand, settings) as running:
        await running.apply(web=[*await backs.start("a", id=9), *await backs.start("b", id=5)])
        link = await stand.link()
        ids = {name.split("_")[0]: one.server.id for name, one in link.running.backends["web"].servers.items()}
        link.close()
        assert ids["a"] == 5
        assert ids["b"] not in (5, None)
        assert running.applier.reloads == 0


# -- modes


async def test_a_daemon_line_is_overruled(stand: Stand, backs: Origins) -> None:
    settings = stand.settings({"web": stand.service("web")}, **{"global": ["daemon"]})
    async with applying(stand, settings) as running:
        await running.apply(web=await backs.start("a"))
        await running.apply(web=await backs.start("b"))
        assert await answers(stand.ports["web"]) == {"b"}
        await stand.master()
        assert "\tdaemon\n" in stand.file()
    assert stand.masters() == []


async def test_without_commands_every_change_is_a_reload(stand: Stand, backs: Origins) -> None:
    settings = stand.settings({"web": stand.service("web")}, do_socket=False, restart_interval=0.0)
    async with applying(stand, settings) as running:
        await running.apply(web=await backs.start("a"))
        await running.apply(web=await backs.start("a", "b"))
        await running.apply(web=await backs.start("b"))
        assert await answers(stand.ports["web"]) == {"b"}
        assert running.applier.reloads == 2


async def test_the_file_alone_needs_no_haproxy(tmp_path: Path, backs: Origins) -> None:
    stand = Stand(tmp_path, tmp_path / "no-haproxy")
    settings = stand.settings({"web": stand.service("web")}, do_reloads=False, do_socket=False)
    async with applying(stand, settings) as running:
        await running.apply(web=await backs.start("a"))
        assert "server a_" in stand.file()
        assert "DOCKSTACK_MARK" not in stand.file()
        assert "stats socket" not in stand.file()
        running.put(web=await backs.start("b"))
        await running.until(lambda: "server b_" in stand.file(), "the file follows")


async def test_where_others_reload_a_file_that_the_check_refuses_is_not_written(tmp_path: Path, backs: Origins) -> None:
    stand = Stand(tmp_path, tmp_path / "no-haproxy")
    candidate = tmp_path / "candidate"
    settings = stand.settings(
        {"web": stand.service("web")},
        do_reloads=False,
        do_socket=False,
        do_checks=True,
        check_command=f"grep -q server {candidate} && ! grep -q 10.6.6.6 {candidate}",
        candidate_config_file_path=str(candidate),
    )
    async with applying(stand, settings) as running:
        running.put(web=[Instance("10.6.6.6", 80, "bad")])
        await running.until(lambda: "refuses the new configuration" in str(running.applier.trouble), "told")
        assert not stand.place.config.exists()
        running.put(web=await backs.start("a"))
        await running.until(lambda: stand.place.config.exists() and "server a_" in stand.file(), "a good one")
        await running.until(lambda: "refuses" not in str(running.applier.trouble), "nothing is wrong")
        running.put(web=[Instance("10.6.6.6", 80, "bad")])
        await running.until(lambda: "refuses the new configuration" in str(running.applier.trouble), "told again")
        assert "10.6.6.6" not in stand.file()
        assert not candidate.exists()
    assert "10.6.6.6" not in stand.file()


async def test_without_reloads_the_file_has_what_is_wanted_and_the_need_is_told(stand: Stand, backs: Origins) -> None:
    service = stand.service("web", ("mode http", "balance static-rr"))
    async with applying(stand, stand.settings({"web": service}, do_reloads=False)) as running:
        running.put(web=await backs.start("a"))
        await serves(running, "web", {"a"})
        running.put(web=await backs.start("a", "b"))
        await running.until(lambda: "server b_" in stand.file(), "the file follows")
        await running.until(lambda: "must be reloaded by hand" in stand.told.texts(), "told")
        assert running.applier.reloads == 0
        assert (await master.reload(stand.place.master_socket, 5)).accepted
        assert await answers(stand.ports["web"]) == {"a", "b"}


async def test_a_haproxy_of_somebody_else(stand: Stand, backs: Origins, tmp_path: Path) -> None:
    """Reloaded by the user's command, never started by us otherwise and never ended."""
    socket, pid = tmp_path / "theirs.sock", tmp_path / "theirs.pid"
    command = f"{stand.binary} -D -p {pid} -f {stand.place.config} -sf $(cat {pid} 2>/dev/null)"
    settings = stand.settings(
        {"web": stand.service("web"), "fixed": stand.service("fixed", ("mode http", "balance static-rr"))},
        **{"global": [f"stats socket {socket} level admin"]},
        reload_command=command,
        socket_file_path=[str(socket)],
        config_file_path=str(stand.place.config),
        restart_interval=0.0,
    )
    try:
        async with applying(stand, settings) as running:
            await running.apply(web=await backs.start("a"), fixed=await backs.start("a"))
            assert running.applier.reloads == 1
            await running.apply(web=await backs.start("a", "b"))
            assert await answers(stand.ports["web"]) == {"a", "b"}
            assert running.applier.reloads == 1
            await running.apply(fixed=await backs.start("c"))
            assert await answers(stand.ports["fixed"]) == {"c"}
            assert running.applier.reloads == 2
        assert await answers(stand.ports["web"]) == {"a", "b"}
        async with applying(stand, settings) as running:
            await running.apply(web=await backs.start("b"), fixed=await backs.start("c"))
            assert await answers(stand.ports["web"]) == {"b"}
            assert running.applier.reloads == 0
    finally:
        await process.end([int(one) for one in pid.read_text().split()], gently=False)


async def test_all_sockets_get_the_commands(stand: Stand, backs: Origins, tmp_path: Path) -> None:
    first, second = tmp_path / "1.sock", tmp_path / "2.sock"
    mine = stand.settings({"web": stand.service("web")}, **{"global": [f"stats socket {first} level admin"]})
    theirs = Stand(tmp_path / "other", stand.binary)
    theirs.directory.mkdir()
    async with cleared(theirs), applying(stand, mine) as one:
        await one.apply(web=await backs.start("a"))
        other = theirs.settings({"web": theirs.service("web")}, **{"global": [f"stats socket {second} level admin"]})
        async with applying(theirs, other) as two:
            await two.apply(web=await backs.start("a"))
            follower = Stand(tmp_path / "follower", stand.binary, stand.ports)
            follower.directory.mkdir()
            settings = follower.settings(
                {"web": follower.service("web")},
                reload_command="false",
                socket_file_path=[str(first), str(second)],
                restart_interval=60.0,
            )
            async with applying(follower, settings) as both:
                both.put(web=await backs.start("a", "b"))
                await until(lambda: answers(stand.ports["web"]), lambda found: found == {"a", "b"})
                await until(lambda: answers(theirs.ports["web"]), lambda found: found == {"a", "b"})


async def test_an_end_is_quick_and_leaves_no_process(stand: Stand, backs: Origins) -> None:
    loop = asyncio.get_running_loop()
    async with applying(stand, stand.settings({"db": stand.service("db", TCP)})) as running:
        await running.apply(db=await backs.start("a"))
        _, writer = await asyncio.open_connection("127.0.0.1", stand.ports["db"])
        begun = loop.time()
    assert loop.time() - begun < 5  # what is promised for an end
    assert process.ours(stand.place.master_socket) == ()
    writer.close()
