"""What a plain YAML scalar means: what Ruby's Psych makes of it, as in the old tools. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TEXT = re.compile(r"[^\d.:-]?(?:[^\W\d_]|[_\s!@#$%^&*(){}<>|/\\~;=])")
_LONGEST_WORD = 5
_LONGEST_NUMBER = 1000  # Python neither reads nor writes a whole number of some thousand digits
_WORDS: Mapping[str, bool | None] = {
    "~": None,
    "null": None,
    "yes": True,
    "true": True,
    "on": True,
    "no": False,
    "false": False,
    "off": False,
}
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9]){1,2}(\.[0-9_]*)?")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_,]*\.[0-9]*|\.[0-9]+)(?:[eE][+-][0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)
_INTEGERS = (
    (2, re.compile(r"[-+]?0b_*[01][01_]*")),
    (8, re.compile(r"[-+]?0_*[0-7][0-7_]*")),
    (10, re.compile(r"[-+]?(?:0|[1-9](?:[0-9]|,[0-9]|_[0-9])*)")),
    (16, re.compile(r"[-+]?0x_*[0-9a-fA-F][0-9a-fA-F_]*")),
)


def psych(text: str) -> Any:
    """None, a boolean, a number, or text.

    YAML 1.1 with Psych's own ways: `10:30` is 37800 (hours and minutes, in seconds), `1,000` a number, `0123` octal;
    `08`, `1e3` and `y` are text. Dates stay text here: that is what JSON makes of them. So do a thousand digits.
    """
    if not text:
        return None
    if "\n" in text or _TEXT.match(text):
        return _WORDS.get(text.lower(), text) if len(text) <= _LONGEST_WORD else text
    number = _number(text) if len(text) <= _LONGEST_NUMBER else None
    return text if number is None else number


def _number(text: str) -> int | float | None:
    digits = text.replace(",", "").replace("_", "")
    if _SPECIAL.fullmatch(text):
        return float(text.lower().replace(".", ""))
    if _SEXAGESIMAL.fullmatch(text):
        parts = [float(part) if "." in text else int(part) for part in digits.split(":")]
        return sum(part * (3600, 60, 1)[place] for place, part in enumerate(parts))
    if _FLOAT.fullmatch(text):
        return float(digits)
    for base, pattern in _INTEGERS:
        if pattern.fullmatch(text):
            return int(digits, base)
    return None
