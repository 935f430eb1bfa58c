"""The templates behind `-s NAME:TYPE:…` and the base configurations behind `-c NAME`: files here, or the user's own.

A template is a service of the nerve or synapse file without what the command line says (address, path).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from dockstack.documents import Document, parse, read
from dockstack.errors import ConfigurationError, Problem

ENDINGS = (".yaml", ".yml", ".json")
OURS = "template"
"""What a document that is package data is known by."""

USUAL_DIRECTORIES = (Path("/services"), Path("/config"))
"""Where the images' users mount their own; looked at when they exist."""


def types(role: str, directories: Sequence[Path]) -> tuple[str, ...]:
    """The names of all templates for `role` (nerve, synapse, or base for base configurations), sorted."""
    own = {Path(entry.name).stem for entry in (files(__name__) / role).iterdir() if entry.name.endswith(ENDINGS)}
    users = {file.stem for place in _places(role, directories) for file in _listed(place)}
    return tuple(sorted(own | users))


def template(role: str, name: str, directories: Sequence[Path], env: Mapping[str, str]) -> Document | None:
    """The template of that name, the user's first: DIRECTORY/ROLE/NAME.yaml, then DIRECTORY/NAME.yaml (or .json).

    None when there is none. Raises ConfigurationError for a file that cannot be used.
    """
    for place in _places(role, directories):
        for ending in ENDINGS:
            if (file := place / f"{name}{ending}").is_file():
                return read(file, env)
    own = files(__name__) / role / f"{name}.yaml"
    return _parsed(own.read_text(encoding="utf-8"), env) if own.is_file() else None


def _parsed(text: str, env: Mapping[str, str]) -> Document:
    found = parse(text, OURS, env)
    return Document(found.data, {(): OURS})


def directories(given: Sequence[Path]) -> tuple[Path, ...]:
    """The directories to look in: those of the user, then the usual ones that exist."""
    for directory in given:
        if not _can_be_read(directory):
            raise ConfigurationError(Problem("--templates", f"{directory} is no directory that can be read"))
    return (*given, *filter(_can_be_read, USUAL_DIRECTORIES))


def _can_be_read(directory: Path) -> bool:
    return directory.is_dir() and os.access(directory, os.R_OK | os.X_OK)


def _places(role: str, directories: Sequence[Path]) -> tuple[Path, ...]:
    return tuple(place for directory in directories for place in (directory / role, directory))


def _listed(place: Path) -> tuple[Path, ...]:
    return tuple(file for file in place.iterdir() if file.suffix in ENDINGS) if place.is_dir() else ()
