"""The file's sections, from the settings."""

from __future__ import annotations

from typing import Any

import pytest

from dockstack.settings.synapse import HaproxySettings, ServiceHaproxy
from dockstack.synapse.haproxy.model import Section
from dockstack.synapse.haproxy.sections import SHARED_TITLE, Skeleton, head, skeleton, tail
from tests.synapse.haproxy.worlds import server


def top(**settings: Any) -> HaproxySettings:
    return HaproxySettings(**{"global": ["daemon"], "defaults": ["mode http"], **settings})


def frontend(own: dict[str, Any], **settings: Any) -> tuple[str, ...] | None:
    found = skeleton("svc", ServiceHaproxy(**own), top(**settings), ())
    assert found is not None
    return None if found.frontend is None else found.frontend.lines


@pytest.mark.parametrize(
    ("own", "settings", "bind"),
    [
        ({"port": 80}, {}, "bind localhost:80"),
        ({"port": "80"}, {"bind_address": "0.0.0.0"}, "bind 0.0.0.0:80"),
        ({"port": 80, "bind_address": "127.0.0.2"}, {"bind_address": "0.0.0.0"}, "bind 127.0.0.2:80"),
        ({"port": 80, "bind_options": "ssl crt x"}, {}, "bind localhost:80 ssl crt x"),
        ({"port": None, "bind_address": "/tmp/x.sock"}, {}, "bind /tmp/x.sock"),
        ({"port": None, "bind_address": "/tmp/x.sock", "bind_options": "mode 600"}, {}, "bind /tmp/x.sock mode 600"),
        ({"port": 80, "bind_address": "::1"}, {}, "bind ::1:80"),
        ({"port": 80, "bind_address": "[::1]"}, {}, "bind [::1]:80"),
        ({"port": 80, "bind_address": "ipv6@::"}, {}, "bind ipv6@:::80"),
        ({"port": 80, "bind_address": "*"}, {}, "bind *:80"),
        ({"port": None}, {"bind_address": "unix@/tmp/x.sock"}, "bind unix@/tmp/x.sock"),
    ],
)
def test_the_bind_line(own: dict[str, Any], settings: dict[str, Any], bind: str) -> None:
    assert frontend(own, **settings) == (bind, "default_backend svc")


def test_a_frontend_is_its_lines_then_bind_then_the_backend() -> None:
    own = {"port": 1, "frontend": ["maxconn 5"], "listen": ["mode http"], "backend_name": "other"}
    assert frontend(own) == ("maxconn 5", "mode http", "bind localhost:1", "default_backend other")


def test_without_a_port_there_is_a_backend_only() -> None:
    assert frontend({"listen": ["mode http"]}) is None


def test_a_disabled_section_writes_nothing() -> None:
    assert skeleton("svc", ServiceHaproxy(disabled=True), top(), ()) is None


def test_the_skeleton_takes_the_servers_in() -> None:
    found = skeleton("svc", ServiceHaproxy(backend_name="other", listen=("mode tcp",)), top(), ("mode http",))
    assert found is not None
    made = found.with_servers((server("a", 1),))
    assert (made.backend.name, made.backend.mode, made.backend.servers) == ("other", "tcp", (server("a", 1),))


def test_global_gets_only_what_it_does_not_say() -> None:
    settings = top(**{"global": ["hard-stop-after 5s", "", "# x", "stats socket /a mode 600", "stats timeout 1s"]})
    ours = (
        "hard-stop-after 24h",
        "mworker-max-reloads 10",
        "stats socket /a level admin",
        "stats socket /b level admin",
    )
    assert head(settings, ours).sections[0].lines == (
        "hard-stop-after 5s",
        "stats socket /a mode 600",
        "stats timeout 1s",
        "mworker-max-reloads 10",
        "stats socket /b level admin",
    )


def test_extra_sections_stand_behind_the_defaults_in_their_order() -> None:
    settings = top(extra_sections={"listen stats :3212": ["stats enable"], "peers p": []})
    found = head(settings)
    assert found.sections[1:] == (
        Section("defaults", ("mode http",)),
        Section("listen stats", ("bind :3212", "stats enable")),
        Section("peers p"),
    )
    assert len(found.warnings) == 1


def test_a_configuration_that_is_only_written_is_written_as_it_is() -> None:
    settings = top(do_reloads=False, extra_sections={"listen stats :3212": ["reqadd X"]})
    found = head(settings)
    assert found.sections[2] == Section("listen stats :3212", ("reqadd X",))
    assert (found.warnings, found.problems) == ((), ())


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"defaults": ["contimeout 5s"]}, "haproxy.defaults"),
        ({"extra_sections": {"frontend f": ["block if x"]}}, "haproxy.frontend f"),
    ],
)
def test_what_haproxy_no_longer_takes_is_a_problem_in_proxies(settings: dict[str, Any], where: str) -> None:
    (problem,) = head(top(**settings)).problems
    assert problem.where == where


def test_other_sections_have_other_keywords() -> None:
    assert head(top(extra_sections={"program x": ["grace 5s"]})).problems == ()


def skeletons(settings: HaproxySettings, **own: ServiceHaproxy) -> dict[str, Skeleton]:
    made = {name: skeleton(name, one, settings, ()) for name, one in own.items()}
    return {name: one for name, one in made.items() if one is not None}


def shares(*lines: str) -> ServiceHaproxy:
    return ServiceHaproxy(shared_frontend=lines)


def test_the_shared_frontend_collects_the_services_lines_in_their_order() -> None:
    settings = top(shared_frontend=["bind :1", "nonsense"])
    own = skeletons(settings, a=shares("acl a path /a"), b=shares("use_backend b if x", "nonsense"))
    found = tail(settings, own.values())
    assert found.sections == (Section(SHARED_TITLE, ("bind :1", "acl a path /a", "use_backend b if x")),)
    assert (len(found.warnings), len(own["b"].warnings)) == (1, 1)


def test_lines_for_a_shared_frontend_that_is_not_there_are_named() -> None:
    own = skeletons(top(), a=shares("acl a path /a"))
    assert tail(top(), own.values()).sections == ()
    assert "no shared_frontend" in own["a"].warnings[0]
    assert tail(top(shared_frontend=[]), ()).sections == (Section(SHARED_TITLE),)


def test_a_skeleton_says_everything_at_once() -> None:
    own = skeletons(
        top(),
        a=ServiceHaproxy(listen=("bogus", "retry-on x", "block if x")),
        b=ServiceHaproxy(frontend=("bogus", "reqadd x")),
        c=ServiceHaproxy(disabled=True, listen=("block if x",)),
    )
    said = {name: (len(one.warnings), len(one.newer), len(one.problems)) for name, one in own.items()}
    assert said == {"a": (1, 1, 1), "b": (1, 0, 1)}
