"""From plain data to settings, or to everything that is wrong with them; and the files of `service_conf_dir`.

What is wrong between the parts of a synapse file is told by `load`: nerve has no use for those models, which are large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from dockstack.documents import Document, read, spelled
from dockstack.errors import ConfigurationError, Problem
from dockstack.settings import faults
from dockstack.settings.common import OFFERED
from dockstack.settings.copies import clashes
from dockstack.settings.nerve import AnyService, NerveSettings

if TYPE_CHECKING:
    from dockstack.settings.synapse import SynapseService

T = TypeVar("T", bound=BaseModel)
Offered = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """Settings that can be run, and what in them an operator should look at."""

    settings: T
    warnings: tuple[Problem, ...] = ()


def nerve(document: Document, unknown_keys_are_warnings: bool = False) -> Loaded[NerveSettings]:
    """The nerve file; raises ConfigurationError with all problems."""
    loaded = validated(NerveSettings, document, unknown_keys_are_warnings)
    if found := tuple(clashing(loaded.settings.services, document)):
        raise ConfigurationError(*found)
    return loaded


def with_service_files(document: Document, env: Mapping[str, str]) -> Document:
    """The document with the services of its `service_conf_dir`, each in a file of its name, which win.

    The directory is relative to the working directory. Raises ConfigurationError when it or a file cannot be read.
    """
    named = document.data.get("service_conf_dir")
    if not isinstance(named, str):
        return document
    directory = Path(named)
    if not directory.is_dir():
        where = document.where(("service_conf_dir",))
        raise ConfigurationError(Problem(where, f"{directory.absolute()} is no directory; make it or remove the key"))
    problems: list[Problem] = []
    files: dict[str, Path] = {}
    for file in (file for ending in ("*.json", "*.yaml") for file in sorted(directory.glob(ending))):
        if file.name.startswith("."):
            continue
        if file.stem in files:
            problems.append(Problem(str(file), f"{files[file.stem]} describes the same service; remove one of them"))
        files[file.stem] = file
        try:
            document = document.with_part(("services", file.stem), read(file, env))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
    return document


def validated(model: type[T], document: Document, lenient: bool, offered: Offered | None = None) -> Loaded[T]:
    """The settings of that model; raises ConfigurationError with all problems that the model itself finds.

    `offered` tells of a group and a name whether somebody else's plug-in is installed.
    """
    warnings = list(document.warnings)
    data = document.data
    context = {OFFERED: offered}
    try:
        settings = model.model_validate(data, context=context)
    except ValidationError as error:
        unknown = faults.unknown_keys(error, data)
        if not (lenient and unknown):
            raise ConfigurationError(*faults.problems(error, model, document)) from None
        warnings += [Problem(document.where(steps), "unknown key, ignored") for steps in unknown]
        data = faults.without(data, unknown)
        try:
            settings = model.model_validate(data, context=context)
        except ValidationError as remaining:
            raise ConfigurationError(*faults.problems(remaining, model, document.with_data(data))) from None
    quoted = faults.quoted_numbers(settings, data)
    if quoted:
        named = ", ".join(spelled(steps) for steps in quoted[:3]) + (" …" if len(quoted) > 3 else "")
        place = document.where(()) or document.place(quoted[0])
        warnings.append(Problem(place, f"numbers in quotes are read as numbers: {named}"))
    return Loaded(settings, tuple(warnings))


def clashing(
    services: Mapping[str, AnyService] | Mapping[str, SynapseService], document: Document
) -> Iterator[Problem]:
    """Services of which one has a copy with the name of another."""
    for name, what in clashes(services):
        yield Problem(document.where(("services", name)), what)
