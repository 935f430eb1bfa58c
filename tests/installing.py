"""A distribution of somebody else's, installed for one test."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def install(
    directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str, points: Mapping[str, Mapping[str, str]]
) -> None:
    """Makes the module `name` with this code and its entry points, by group and name; gone after the test."""
    (directory / f"{name}.py").write_text(code)
    metadata = directory / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = (
        "\n".join((f"[dockstack.{group}]", *(f"{point} = {target}" for point, target in each.items())))
        for group, each in points.items()
    )
    (metadata / "entry_points.txt").write_text("\n\n".join(groups) + "\n")
    monkeypatch.syspath_prepend(directory)
    monkeypatch.delitem(sys.modules, name, raising=False)
