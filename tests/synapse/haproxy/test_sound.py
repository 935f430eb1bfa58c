"""What stands in for a service's lines that HAProxy has refused."""

from __future__ import annotations

from typing import Any

from dockstack.settings.synapse import HaproxySettings, SynapseService
from dockstack.synapse.haproxy.binds import Bind
from dockstack.synapse.haproxy.document import Frame, frame
from dockstack.synapse.haproxy.sections import SHARED_TITLE
from dockstack.synapse.haproxy.sound import Sound

TOP = HaproxySettings.model_validate({"global": [], "defaults": [], "shared_frontend": ["bind :1"]})


def given(**services: dict[str, Any]) -> Frame:
    """The frame of services with these `haproxy` sections."""
    made = {
        name: SynapseService.model_validate({"discovery": {"method": "base"}, "haproxy": own})
        for name, own in services.items()
    }
    return frame(TOP, made, (), "host")


def own(*lines: str, shared: str = "acl a path /a") -> dict[str, Any]:
    return {"port": 80, "listen": list(lines), "shared_frontend": [shared]}


def backend(found: Frame, name: str) -> tuple[str, ...]:
    return found.empty.stanzas[name].backend.lines


def test_nothing_that_was_refused_is_the_frame_as_given() -> None:
    one = given(a=own("mode http"))
    assert Sound().in_force(one) is one
    assert Sound().problems == ()


def test_a_service_that_was_never_taken_is_left_out() -> None:
    sound, one = Sound(), given(a=own("balance x", shared="acl of a"), b=own("mode http", shared="acl of b"))
    assert sound.leave([("a", "unknown balance")], one, sound.in_force(one)) == ("a",)
    found = sound.in_force(one)
    assert found.empty.stanzas.keys() == found.skeletons.keys() == found.rules.keys() == {"b"}
    (shared,) = found.empty.tail
    assert (shared.title, shared.lines) == (SHARED_TITLE, ("bind :1", "acl of b"))
    assert sound.problems == (
        "service a: HAProxy does not take its settings, the service is left out: unknown balance",
    )


def test_a_service_keeps_the_lines_that_were_taken() -> None:
    sound, good = Sound(), given(a=own("mode tcp", shared="acl good"), b=own("mode http"))
    sound.trust(good.empty, good)
    bad = given(a=own("balance x", shared="acl bad"), b=own("balance source"))
    sound.leave([("a", "unknown balance")], bad, sound.in_force(bad))
    found = sound.in_force(bad)
    assert (backend(found, "a"), backend(found, "b")) == (("mode tcp",), ("balance source",))
    assert found.rules["a"].cookie is None
    assert "acl good" in found.empty.tail[0].lines
    assert "the last that it took are in use: unknown balance" in sound.problems[0]


def test_other_settings_are_tried() -> None:
    sound, bad = Sound(), given(a=own("balance x"), b=own())
    sound.leave([("a", "no")], bad, sound.in_force(bad))
    assert "a" not in sound.in_force(given(a=own("balance x"), b=own("mode tcp"))).skeletons
    other = given(a=own("balance y"), b=own())
    assert sound.in_force(other) is other
    assert sound.problems == ()


def test_the_same_settings_are_tried_again_when_that_is_asked_for() -> None:
    sound, bad = Sound(), given(a=own("balance x"), b=own())
    sound.leave([("a", "no")], bad, sound.in_force(bad))
    sound.forgive()
    assert sound.in_force(bad) is bad
    assert sound.problems == ()


def test_a_service_that_misses_an_address_is_tried_again_alone() -> None:
    sound, one = Sound(), given(a=own(), b=own("balance x"))
    where = (Bind("127.0.0.1", 80),)
    sound.leave([("a", "somebody holds it"), ("b", "no")], one, sound.in_force(one), {"a": where})
    assert sound.missed == {"a": where}
    assert "service a: its address cannot be had, the service is left out: somebody holds it" in sound.problems
    sound.forgive(["a"])
    assert sound.in_force(one).skeletons.keys() == {"a"}
    assert sound.missed == {}


def test_what_stands_in_can_be_refused_too() -> None:
    """A file that it names is gone, say."""
    sound, good = Sound(), given(a=own("errorfile 503 /tmp/x"), b=own())
    sound.trust(good.empty, good)
    sound.leave([("a", "no such file")], good, sound.in_force(good))
    assert "a" not in sound.in_force(good).skeletons
    sound.trust(good.empty, good)
    bad = given(a=own("balance x"), b=own())
    sound.leave([("a", "unknown balance")], bad, sound.in_force(bad))
    assert "a" in sound.in_force(bad).skeletons
    sound.leave([("a", "no such file")], bad, sound.in_force(bad))
    assert "a" not in sound.in_force(bad).skeletons


def test_what_a_process_has_loaded_stands_in_without_its_shared_lines() -> None:
    """Of a file that is read back it is not known which shared lines are whose."""
    sound, old, bad = Sound(), given(a=own("mode tcp"), b=own()), given(a=own("balance x"), b=own())
    sound.trust(old.empty, bad)
    sound.leave([("a", "no")], bad, sound.in_force(bad))
    found = sound.in_force(bad)
    assert backend(found, "a") == ("mode tcp",)
    assert found.skeletons["a"].shared == ()


def test_a_service_that_is_gone_is_forgotten() -> None:
    sound, bad = Sound(), given(a=own("balance x"), b=own())
    sound.leave([("a", "no")], bad, sound.in_force(bad))
    sound.in_force(given(b=own()))
    assert sound.problems == ()
    assert sound.leave([("a", "no")], given(b=own()), given(b=own())) == ()
