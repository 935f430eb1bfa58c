"""YAML text to a document. Scalars are read as in Ruby; whatever is doubtful or wrong is told with its line. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from dockstack.documents.compose import PLAIN, TAG, Node, Scalar, Sequence, compose
from dockstack.documents.compose import Mapping as Map
from dockstack.documents.document import Document, Steps, fault, spelled
from dockstack.documents.environment import EnvironmentText, is_left_alone, substitute, without_erb
from dockstack.documents.scalars import psych
from dockstack.errors import ConfigurationError, Problem

_DEEPEST = 64
_MOST_NODES = 1_000_000  # aliases of aliases can make a small text huge


def parse(text: str, source: str, env: Mapping[str, str]) -> Document:
    """The document in a text, which must be one map; an empty text is an empty map.

    `source` is what users know the text by. Raises ConfigurationError with every duplicate key, unset variable and
    unknown tag, or with the one place where the text stops being YAML.
    """
    try:
        root = compose(without_erb(text, source, env))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(filter(None, (error.problem, error.context)))
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise fault(place, f"not valid YAML: {what}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise fault(f"{source}:{line}", f"not valid YAML: the character {error.character!r} is not allowed") from None
    building = _Building(source, env)
    data = {} if root is None else building.value(root, ())
    if building.problems:
        raise ConfigurationError(*building.problems)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise fault(f"{source}:1", "the file must hold a map (`key: value`), not a list or a single value")
    return Document(data, {(): source, **building.places}, tuple(building.warnings))


class _Building:
    """One walk over the nodes: what was read, where it stands, and everything that is wrong."""

    def __init__(self, source: str, env: Mapping[str, str]) -> None:
        self._source = source
        self._env = env
        self._count = 0
        self.places: dict[Steps, str] = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def value(self, node: Node, steps: Steps) -> Any:
        place = self._place(node)
        self.places[steps] = place
        self._count += 1
        if self._count > _MOST_NODES or len(steps) > _DEEPEST:
            raise fault(place, "too deep or too large: an alias may contain itself")
        if isinstance(node, Scalar):
            return self._scalar(node, steps)
        if node.tag not in (f"{TAG}map", f"{TAG}seq"):
            self._problem(node, steps, f"the tag {node.tag} is not supported")
        if isinstance(node, Sequence):
            return [self.value(item, (*steps, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, Map)
        return self._mapping(node, steps)

    def _place(self, node: Node) -> str:
        return f"{self._source}:{node.line}"

    def _problem(self, node: Node, steps: Steps, what: str) -> None:
        self.problems.append(Problem(": ".join(filter(None, (self._place(node), spelled(steps)))), what))

    def _scalar(self, node: Scalar, steps: Steps) -> Any:
        text: str = node.value
        if "\0" in text:  # no path, no line and no name can hold it
            self._problem(node, steps, "has a NUL character in it")
        if node.tag not in (PLAIN, f"{TAG}str"):
            return self._tagged(node, steps)
        if "${" in text and not is_left_alone(steps):
            try:
                return EnvironmentText(substitute(text, self._env))
            except ValueError as error:
                self._problem(node, steps, str(error))
                return text
        value = psych(text) if node.tag == PLAIN else text
        if isinstance(value, float) and not -float("inf") < value < float("inf"):
            self._problem(node, steps, f"{text} is no finite number")
        return value

    def _tagged(self, node: Scalar, steps: Steps) -> Any:
        value = psych(node.value)
        wanted = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}.get(node.tag.removeprefix(TAG))
        if wanted is None:
            self._problem(node, steps, f"the tag {node.tag} is not supported")
        elif not isinstance(value, wanted):  # type: ignore[arg-type]
            self._problem(node, steps, f"{node.value!r} does not fit its tag {node.tag}")
        return value

    def _mapping(self, node: Map, steps: Steps) -> dict[str, Any]:
        merges = [value for key, value in node.value if _merges(key)]
        merged = self._merged(merges, steps)
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = None if _merges(key_node) else self._key(key_node, steps)
            if key is None:
                continue
            if key in own:
                earlier = self.places[*steps, key].rpartition(":")[2]
                self._problem(key_node, (*steps, key), f"a duplicate key: it is already there, in line {earlier}")
                continue
            own[key] = self.value(value_node, (*steps, key))
            self.places[*steps, key] = self._place(key_node)
        return {**merged, **own}

    def _merged(self, nodes: list[Node], steps: Steps) -> dict[str, Any]:
        """What `<<` brings in, read before the map's own keys, which win; of several maps the first wins."""
        merged: dict[str, Any] = {}
        parts = [part for node in nodes for part in (node.value if isinstance(node, Sequence) else (node,))]
        for part in reversed(parts):
            if isinstance(part, Map):
                place = self.places[steps]
                merged |= self.value(part, steps)
                self.places[steps] = place
            else:
                self._problem(part, (*steps, "<<"), "a merge needs a map, or a list of maps")
        return merged

    def _key(self, node: Node, steps: Steps) -> str | None:
        if not isinstance(node, Scalar):
            self._problem(node, steps, "a key must be text, not a list or a map")
            return None
        if "\0" in node.value:
            self._problem(node, steps, "a key has a NUL character in it")
            return None
        value = psych(node.value) if node.tag == PLAIN else node.value
        if isinstance(value, bool) or value is None:
            text = "" if value is None else str(value).lower()
            where = f"{self._place(node)}: {spelled((*steps, text))}"
            self.warnings.append(Problem(where, f"YAML reads the key {node.value} as {text or 'nothing'}; quote it"))
            return text
        return str(value)


def _merges(key: Node) -> bool:
    return key.tag == PLAIN and key.value == "<<"
