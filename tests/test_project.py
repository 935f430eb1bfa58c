"""What a fresh clone installs from: locked with hashes, for every platform, and from no place in particular."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
_PINNED = re.compile(r"^([a-z0-9.-]+)==(\S+)", re.MULTILINE)


def _pins(lock: str) -> dict[str, str]:
    return dict(_PINNED.findall((ROOT / lock).read_text()))


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!;\[ ]", line)[0].lower().replace("_", "-") for line in requirements}


@pytest.mark.parametrize("lock", LOCKS)
def test_each_locked_package_has_hashes_and_no_line_names_a_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "").splitlines()
    assert entries
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9.-]+==[^#@]*?( +--hash=sha256:[0-9a-f]{64})+", entry), entry
    assert "://" not in text
    assert " /" not in text


def test_all_that_the_project_names_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    runtime = _names(project["project"]["dependencies"] + project["project"]["optional-dependencies"]["haproxy"])
    assert runtime <= _pins("requirements.lock").keys()
    assert _names(groups["build"]) <= _pins("requirements-build.lock").keys()
    assert runtime | _names(groups["dev"]) | _names(groups["build"]) <= _pins("requirements-dev.lock").keys()


def test_nothing_is_installed_that_nothing_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    source = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    imported = set(re.findall(r"^ *(?:from|import) ([A-Za-z0-9_]+)", source, re.MULTILINE))
    found = {name.lower().replace("_", "-") for top in imported for name in packages_distributions().get(top, ())}
    assert _names(project["dependencies"]) <= found


def test_one_venv_can_hold_all_locks() -> None:
    development = _pins("requirements-dev.lock")
    for lock in LOCKS:
        assert _pins(lock).items() <= development.items()
