"""What the pages list is what there is: every option of every command, every key of the files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest

from dockstack import configure, templates
from dockstack.cli import main
from dockstack.settings.common import Model
from dockstack.settings.nerve import NerveSettings
from dockstack.settings.synapse import SynapseSettings

DOCS = Path(__file__).parent.parent / "docs"


def options() -> Iterator[str]:
    for command in main.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield parameter.opts[-1] if parameter.name != "instance_id" else "--instance_id"
    yield from (f"dockstack {name}" for name in ("nerve", "synapse", "plan", "demo", "check", "schema", "health"))
    yield from ("| ready", *(f"| `{kind}` |" for kind in templates.types("synapse", ())))


@pytest.mark.parametrize("option", sorted(set(options())))
def test_every_option_stands_in_the_page_of_the_commands(option: str) -> None:
    names = {"--discovery": "-d", "--service": "-s", "--raw": "-r", "--config": "-c"}
    assert names.get(option, option) in (DOCS / "cli.md").read_text()


def keys(model: object, seen: set[object]) -> Iterator[str]:
    if model in seen:
        return
    seen.add(model)
    if isinstance(model, type) and issubclass(model, Model):
        for name, field in model.model_fields.items():
            yield field.alias or name
            yield from keys(field.annotation, seen)
    for part in get_args(model):
        if not isinstance(part, str):
            yield from keys(part, seen)


def examples() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", (DOCS / "configuration.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("role", ["nerve", "synapse"])
def test_the_example_of_a_file_is_fine_without_a_doubt(role: str, tmp_path: Path) -> None:
    file = tmp_path / f"{role}.yaml"
    file.write_text({"nerve": examples()[0], "synapse": examples()[1]}[role])
    loaded = configure.file(file, None, False, {})
    assert [*loaded.settings.services] == ["shop"]
    assert loaded.warnings == ()


# Parts of what is only accepted.
UNLISTED = {"sample_rate", "max_attempts", "max_delay", "base_interval", "max_interval", "output_directory"}


@pytest.mark.parametrize("model", [NerveSettings, SynapseSettings])
def test_every_key_stands_in_the_page_of_the_files(model: type[Model]) -> None:
    page = (DOCS / "configuration.md").read_text()
    found = set(keys(model, set()))
    assert {"checks", "fall", "uri"} <= found or {"discovery", "hosts", "listen"} <= found
    assert {key for key in found - UNLISTED if f"`{key}`" not in page} == set()
