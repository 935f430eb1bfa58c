"""YAML text to a tree of nodes that know their lines. Pure.

libyaml reads the text, as in Ruby. The nodes are our own: PyYAML's carry two marks of six values each, and the memory
that a large file needs for a moment is memory that a daemon keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import ComposerError

PLAIN = "plain scalar"
"""The tag of a scalar without quotes and without a tag."""

TAG = "tag:yaml.org,2002:"

_DEEPEST = 200


@dataclass(slots=True, eq=False)
class Scalar:
    """A text; `line` counts from 1."""

    tag: str
    line: int
    value: str


@dataclass(slots=True, eq=False)
class Sequence:
    """A list."""

    tag: str
    line: int
    value: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Mapping:
    """Keys with their values, in the text's order; a key may be there twice."""

    tag: str
    line: int
    value: list[tuple[Node, Node]] = field(default_factory=list)


Node = Scalar | Sequence | Mapping


def compose(text: str) -> Node | None:
    """The one document in a text; None: there is none. Raises yaml.MarkedYAMLError or yaml.reader.ReaderError."""
    loader = yaml.CSafeLoader(text)
    try:
        return _Composing(loader).single()
    finally:
        loader.dispose()


class _Composing:
    def __init__(self, loader: yaml.CSafeLoader) -> None:
        self._loader = loader
        self._anchors: dict[str, tuple[Node, Any]] = {}

    def single(self) -> Node | None:
        self._next()  # the stream begins
        if self._loader.check_event(yaml.StreamEndEvent):
            return None
        first = self._next()
        node = self._node(self._next(), 0)
        self._next()  # the document ends
        if not self._loader.check_event(yaml.StreamEndEvent):
            what = "expected a single document in the stream"
            raise ComposerError(what, first.start_mark, "but found another document", self._next().start_mark)
        return node

    def _next(self) -> Any:
        return self._loader.get_event()

    def _node(self, event: Any, depth: int) -> Node:
        if depth > _DEEPEST:
            raise ComposerError(None, None, "nested too deep", event.start_mark)
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise ComposerError(None, None, f"found undefined alias {event.anchor}", mark)
            return self._anchors[event.anchor][0]
        line, given = mark.line + 1, None if event.tag == "!" else event.tag
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(given or (PLAIN if event.implicit[0] else f"{TAG}str"), line, event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Sequence(given or f"{TAG}seq", line)
        else:
            node = Mapping(given or f"{TAG}map", line)
        if event.anchor is not None:
            self._anchor(event.anchor, node, mark)
        if isinstance(node, Sequence):
            while not isinstance(item := self._next(), yaml.SequenceEndEvent):
                node.value.append(self._node(item, depth + 1))
        elif isinstance(node, Mapping):
            while not isinstance(key := self._next(), yaml.MappingEndEvent):
                node.value.append((self._node(key, depth + 1), self._node(self._next(), depth + 1)))
        return node

    def _anchor(self, name: str, node: Node, mark: Any) -> None:
        if name in self._anchors:
            first = self._anchors[name][1]
            raise ComposerError("found duplicate anchor; first occurrence", first, "second occurrence", mark)
        self._anchors[name] = (node, mark)
