"""The `%{…}` template of server options: `%{host}`, `%{port}`, `%{name}` and `%%`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

VARIABLES = ("host", "port", "name")
_TOKEN = re.compile(r"%(?:%|\{(?P<name>[^}]*)\}|(?P<bad>))")


def fault(template: str) -> str | None:
    """What is wrong with a template, as a sentence, or None: an unknown variable, or a `%` that begins none."""
    for match in _TOKEN.finditer(template):
        if match["bad"] is not None:
            found = template[match.start() : match.start() + 8]
            return f"`%` begins no variable in `{found}`; write `%%` for a percent sign"
        if match["name"] is not None and match["name"] not in VARIABLES:
            known = ", ".join(f"%{{{name}}}" for name in VARIABLES)
            return f"unknown variable %{{{match['name']}}}; known are {known} and %%"
    return None


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its variables replaced. Raises ValueError with the sentence of `fault`."""
    problem = fault(template)
    if problem is not None:
        raise ValueError(problem)
    return _TOKEN.sub(lambda match: "%" if match["name"] is None else values[match["name"]], template)
