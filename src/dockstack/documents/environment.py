"""What users leave to the environment: `${VAR}` in our own settings, and ERB's two look-ups. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dockstack.documents.document import Steps, fault


class EnvironmentText(str):
    """Text that came from the environment: a number or a truth value where one is wanted, else text."""

    __slots__ = ()


_VARIABLE = re.compile(r"\$(?P<escaped>\$)?\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")
_HAPROXY_LINES = frozenset(
    {
        "global",
        "defaults",
        "frontend",
        "backend",
        "listen",
        "shared_frontend",
        "extra_sections",
        "server_options",
        "haproxy_server_options",
        "bind_options",
    }
)
_NAMES_OF_USERS = frozenset({"services", "labels", "headers", "watchers"})


def is_left_alone(steps: Steps) -> bool:
    """Whether a value is a line for HAProxy or a command: HAProxy and the shell expand `${…}` themselves."""
    keys = [step for step in steps if isinstance(step, str)]
    return any(
        (key in _HAPROXY_LINES or key == "command" or key.endswith("_command"))
        and not (index and keys[index - 1] in _NAMES_OF_USERS)
        for index, key in enumerate(keys)
    )


def substitute(text: str, env: Mapping[str, str]) -> str:
    """The text with `${VAR}` and `${VAR:-default}` (also for an empty VAR) filled in; `$${` is a literal `${`.

    Raises ValueError for a variable that is not set and has no default, and for other forms of `${`.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match["escaped"]:
            return match[0][1:]
        if name is None:
            raise ValueError("after `${` comes NAME} or NAME:-default}; write `$${` for a literal one")
        if default is not None:
            return env.get(name) or default
        if name not in env:
            raise ValueError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        return env[name]

    return _VARIABLE.sub(value, text)


_ERB = re.compile(r"<%(?P<literal>%)|<%(?P<code>.*?)%>|<%", re.DOTALL)
_ERB_LOOKUP = re.compile(
    r"""=\s*ENV(?:\[\s*(?P<q>["'])(?P<name>\w+)(?P=q)\s*\]
    |\.fetch\(\s*(?P<fq>["'])(?P<fetched>\w+)(?P=fq)\s*(?:,\s*(?P<dq>["'])(?P<default>[^"'\\#]*)(?P=dq)\s*)?\))\s*""",
    re.VERBOSE,
)


def without_erb(text: str, source: str, env: Mapping[str, str]) -> str:
    """The text with ERB's two look-ups of the environment filled in, as the old tools did before reading YAML."""

    def value(match: re.Match[str]) -> str:
        if match["literal"]:
            return "<%"
        place = f"{source}:{text.count(chr(10), 0, match.start()) + 1}"
        lookup = _ERB_LOOKUP.fullmatch(match["code"] or "")
        if lookup is None:
            shown = " ".join(match[0].split())
            raise fault(place, f"{shown}: of ERB only <%= ENV['X'] %> and <%= ENV.fetch('X', 'd') %> are understood")
        name, fetched, default = lookup["name"], lookup["fetched"], lookup["default"]
        if fetched and default is None and fetched not in env:
            raise fault(place, f"{match[0]}: the environment variable {fetched} is not set")
        found = env.get(name, "") if name else env.get(fetched, default or "")
        if "\n" in found:
            raise fault(place, f"{match[0]}: the value of {name or fetched} has more than one line")
        return found

    return _ERB.sub(value, text) if "<%" in text else text
