"""From the name of a kind to the plug-in that does it: a module of the package, else an entry point.

The outputs of the package are no plug-ins: those of others come beside them.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dockstack.errors import ConfigurationError, Problem

_PACKAGES: Mapping[str, str] = {
    "checks": "dockstack.nerve.checks",
    "watchers": "dockstack.synapse.watchers",
}


def load(group: str, kind: str, where: str) -> Callable[..., Any]:
    """The `build` function of a kind of the group `checks`, `watchers` or `outputs`.

    It is that of the package's module of this name, else the entry point of this name in `dockstack.GROUP`, which is
    such a function or a module that has one. Raises ConfigurationError, with `where` the user wrote the kind.
    """
    if kind in built_in(group):
        plugin: Any = importlib.import_module(f"{_PACKAGES[group]}.{kind}")
    else:
        plugin = _imported(_entry_point(group, kind, where), where)
    build = plugin if callable(plugin) else getattr(plugin, "build", None)
    if not callable(build):
        raise ConfigurationError(Problem(where, f"the plug-in {kind} ({plugin!r}) has no function `build`"))
    return build  # type: ignore[no-any-return]


def built_in(group: str) -> frozenset[str]:
    """The kinds of the group that are modules of the package."""
    if group not in _PACKAGES:
        return frozenset()
    package = importlib.import_module(_PACKAGES[group])
    return frozenset(module.name for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_")


def offered(group: str, kind: str) -> bool:
    """Whether an installed distribution has an entry point of this name in the group."""
    return bool(entry_points(group=f"dockstack.{group}", name=kind))


def known(group: str) -> tuple[str, ...]:
    """All kinds of the group that are installed, sorted."""
    return tuple(sorted(built_in(group) | {point.name for point in entry_points(group=f"dockstack.{group}")}))


@contextmanager
def extra(name: str, user: str) -> Iterator[None]:
    """Around the import of a client that comes with the extra `name`: a missing one is a ValueError for the operator.

    `user` is what needs it, as the beginning of a sentence.
    """
    try:
        yield
    except ImportError as error:
        raise ValueError(
            f"{user} needs a client that cannot be imported ({error}): pip install 'dockstack[{name}]'"
        ) from error


def _entry_point(group: str, kind: str, where: str) -> EntryPoint:
    for point in entry_points(group=f"dockstack.{group}", name=kind):
        return point
    kinds = known(group)
    near = difflib.get_close_matches(kind, kinds, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(kinds)}"
    raise ConfigurationError(Problem(where, f"there is no plug-in {kind!r} among the {group}; {hint}"))


def _imported(point: EntryPoint, where: str) -> Any:
    try:
        return point.load()
    except Exception as error:  # third-party code may raise anything
        said = error if isinstance(error, ImportError | AttributeError) else repr(error)
        raise ConfigurationError(Problem(where, f"the plug-in {point.name} ({point.value}): {said}")) from error
