"""Kinds: modules of the package first, then entry points; what is not there is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dockstack.errors import ConfigurationError
from dockstack.nerve.checks import tcp
from dockstack.plugins import known, load, offered


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution of somebody else's with four checks, installed for this test."""
    (tmp_path / "acme_checks.py").write_text(
        "def build(settings, target): return 'built'\ndef output(*all): return 'built'\nword = 'no function'\n"
    )
    metadata = tmp_path / "acme-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[dockstack.checks]\n"
        "acme = acme_checks\n"
        "acme-build = acme_checks:build\n"
        "acme-word = acme_checks:word\n"
        "acme-lost = acme_nowhere\n"
        "acme-broken = acme_broken\n"
        "tcp = acme_checks\n"
        "[dockstack.outputs]\n"
        "acme-out = acme_checks:output\n"
    )
    (tmp_path / "acme_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "acme_checks", raising=False)


def test_a_module_of_the_package() -> None:
    assert load("checks", "tcp", "here") is tcp.build


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("kind", ["acme", "acme-build"])
def test_an_entry_point_is_a_module_or_a_function(kind: str) -> None:
    assert load("checks", kind, "here")(None, None) == "built"


@pytest.mark.usefixtures("installed")
def test_a_module_of_the_package_cannot_be_replaced() -> None:
    assert load("checks", "tcp", "here") is tcp.build


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("tpc", "services.web.checks[0]: there is no plug-in 'tpc' among the checks; did you mean tcp?"),
        ("acme-word", "services.web.checks[0]: the plug-in acme-word ('no function') has no function `build`"),
        ("acme-lost", "services.web.checks[0]: the plug-in acme-lost (acme_nowhere): No module named 'acme_nowhere'"),
        (
            "acme-broken",
            "services.web.checks[0]: the plug-in acme-broken (acme_broken): ZeroDivisionError('division by zero')",
        ),
    ],
)
def test_what_is_not_there_is_named(kind: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load("checks", kind, "services.web.checks[0]")
    assert str(raised.value) == message


@pytest.mark.usefixtures("installed")
def test_outputs_are_entry_points_alone() -> None:
    assert load("outputs", "acme-out", "here")({}, None, None) == "built"
    assert (offered("outputs", "acme-out"), offered("outputs", "haproxy"), offered("checks", "acme-out")) == (
        True,
        False,
        False,
    )
    with pytest.raises(ConfigurationError, match=r"here: there is no plug-in 'acme-ou' among the outputs"):
        load("outputs", "acme-ou", "here")


@pytest.mark.parametrize("kind", ["zzzzz", "__init__", "..probe", "os", ""])
def test_only_kinds_are_found(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=r"known: docker, exec, grpc, http, mysql, noop, .*tcp"):
        load("checks", kind, "here")


@pytest.mark.usefixtures("installed")
def test_all_kinds_are_listed() -> None:
    assert {"tcp", "http", "mysql", "acme"} <= set(known("checks"))
    assert list(known("checks")) == sorted(known("checks"))
