"""Settings that stand in the registry."""

from __future__ import annotations

import pytest

from dockstack.settings.common import OFFERED
from dockstack.settings.synapse import ServiceFileOutput, ServiceHaproxy, SynapseService
from dockstack.synapse.generator import OUTPUTS, Overlaid, overlay, read

OWN = SynapseService.model_validate(
    {
        "discovery": {"method": "base"},
        "haproxy": {"port": 1, "listen": ["mode http"]},
        "file_output": {"disabled": True},
    }
)


def test_a_section_replaces_the_services_own_and_defaults_are_filled_in() -> None:
    found = overlay("svc", OWN, b'{"haproxy":{"port":4444,"server_options":""}}')
    assert found.problems == ()
    assert found.service.haproxy == ServiceHaproxy(port=4444, server_options="")
    assert found.service.file_output == OWN.file_output


def test_both_outputs_at_once() -> None:
    found = overlay("svc", OWN, b'{"haproxy":{},"file_output":{}}').service
    assert (found.haproxy, found.file_output) == (ServiceHaproxy(), ServiceFileOutput())
    assert not found.haproxy.listens


def test_the_section_of_an_output_of_somebody_elses_is_taken_as_it_is() -> None:
    context = {OFFERED: lambda group, name: name == "acme"}
    own = SynapseService.model_validate({"discovery": {"method": "base"}, "acme": {"x": 1}}, context=context)
    found = overlay("svc", own, b'{"acme": {"y": [2]}, "haproxy": {}}', OUTPUTS | {"acme"})
    assert (found.service.sections, found.problems) == ({"acme": {"y": [2]}}, ())
    assert overlay("svc", own, b'{"haproxy": {}}', OUTPUTS | {"acme"}).service.sections == {"acme": {"x": 1}}
    bad = overlay("svc", own, b'{"acme": 5, "nginx": {}}', OUTPUTS | {"acme"})
    assert (bad.service.sections, len(bad.problems)) == ({"acme": {"x": 1}}, 2)


@pytest.mark.parametrize("data", [b"", b"  \n"])
def test_no_data_says_nothing(data: bytes) -> None:
    assert overlay("svc", OWN, data) == Overlaid(OWN)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"haproxy":{"server_options":"\\ud800"}}', "cannot be used"),
        (b'{"haproxy":{"\\ud800":1}}', "cannot be used"),
        (b"[]", "no map"),
        (b'{"nginx":{}}', "'nginx'"),
        (b'{"haproxy":[]}', "'haproxy'"),
        (b'{"haproxy":null}', "'haproxy'"),
    ],
)
def test_what_cannot_be_used_is_named_and_the_own_settings_stay(data: bytes, named: str) -> None:
    found = overlay("svc", OWN, data)
    assert (found.service, len(found.problems)) == (OWN, 1)
    assert named in found.problems[0]


@pytest.mark.parametrize(
    ("data", "sections"),
    [
        (b"", []),
        (b"{}", []),
        (b'{"nginx":{}}', []),
        (b'{"haproxy":null}', []),
        (b'{"haproxy":{}}', ["haproxy"]),
        (b'{"file_output":{"disabled":true},"x":1}', ["file_output"]),
    ],
)
def test_which_outputs_data_says_something_about(data: bytes, sections: list[str]) -> None:
    assert [*read("svc", data).sections] == sections


def test_a_key_that_is_not_understood_is_named_and_the_rest_applies() -> None:
    found = overlay("svc", OWN, b'{"haproxy":{"port":99999,"lisen":[],"server_options":"check"},"x":1}')
    assert found.service.haproxy == ServiceHaproxy(server_options="check")
    assert [name in " ".join(found.problems) for name in ("port", "lisen", "'x'")] == [True, True, True]
    assert len(found.problems) == 3


def test_weights_from_nerve_are_not_a_services_own_matter() -> None:
    found = overlay("svc", OWN, b'{"haproxy":{"use_nerve_weights":true,"port":2}}')
    assert found.service.haproxy.port == 2
    (problem,) = found.problems
    assert "use_nerve_weights has an effect in the top haproxy section only" in problem


def test_an_output_that_is_not_configured_here_is_named_and_left() -> None:
    found = overlay("svc", OWN, b'{"haproxy":{"port":2},"file_output":{}}', frozenset({"file_output"}))
    assert found.service.haproxy == OWN.haproxy
    assert found.service.file_output == ServiceFileOutput()
    assert found.problems == (
        "service svc: 'haproxy' in the registry's configuration is an output that is not configured here; "
        "it is ignored",
    )
