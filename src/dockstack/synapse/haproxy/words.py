"""A configuration line as HAProxy's words, and the words of a `server` line as settings with their arguments. Pure.

Words keep their quotes and escapes: what was read can be written again as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_PLAIN = re.compile(r"""[^"'\\#]*""")
_WORD = re.compile(r"""(?:[^\s"'\\#]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""", re.DOTALL)
_BLANK = re.compile(r"\s*")

_WITH_ARGUMENT = """
addr agent-addr agent-inter agent-port agent-send alpn ca-file cc check-alpn check-pool-conn-name check-proto
check-sni ciphers ciphersuites client-sigalgs cookie crl-file crt curves downinter error-limit fall fastinter guid
hash-key id idle-ping init-addr init-state inter interface log-bufsize log-proto max-reuse maxconn maxqueue minconn
namespace npn observe on-error on-marked-down on-marked-up pool-conn-name pool-low-conn pool-max-conn
pool-purge-delay port proto proxy-v2-options redir resolve-net resolve-opts resolve-prefer resolvers rise shard
sigalgs slowstart sni socks4 source ssl-max-ver ssl-min-ver tcp-ut track usesrc verify verifyhost weight ws
"""
_ONE_ARGUMENT = frozenset(_WITH_ARGUMENT.split())


def split(text: str, comment: bool = False) -> tuple[str, ...]:
    """The words of a line. Raises ValueError for a quote that is not closed, a last backslash, a comment, and a line
    break that white space does not stand for. `comment`: one may stand at the end, and is left out."""
    if _PLAIN.fullmatch(text):
        return tuple(text.split())
    words = []
    at = len(_match(_BLANK, text, 0))
    while at < len(text) and not (comment and text[at] == "#"):
        word = _match(_WORD, text, at)
        if not word:
            found = text[at : at + 20]
            raise ValueError(f"`{found}` begins a comment" if text[at] == "#" else f"`{found}` is not closed")
        if "\n" in word or "\r" in word:  # it would begin a line of its own in the file
            raise ValueError(f"{word[:40]!r} has a line break in it")
        words.append(word)
        at += len(word)
        blank = _match(_BLANK, text, at)
        if not blank and at < len(text) and not (comment and text[at] == "#"):
            rest = text[at : at + 20]
            raise ValueError(f"`{rest}` begins a comment" if text[at] == "#" else f"`{rest}` is not closed")
        at += len(blank)
    return tuple(words)


def _match(pattern: re.Pattern[str], text: str, at: int) -> str:
    found = pattern.match(text, at)
    return "" if found is None else found.group()


def settings(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The settings of a server line, in order: each keyword with its argument, if it takes one."""
    at = 0
    while at < len(words):
        keyword = words[at]
        takes = keyword in _ONE_ARGUMENT or keyword.startswith("set-proxy-v2-tlv-fmt(")
        yield tuple(words[at : at + 2]) if takes else (keyword,)
        at += 2 if takes else 1


def without(text: str, *keywords: str) -> str:
    """Server options without these settings and their arguments, white space folded. Raises ValueError as `split`."""
    if not any(keyword in text for keyword in keywords):
        return " ".join(split(text))
    return " ".join(" ".join(one) for one in settings(split(text)) if one[0] not in keywords)
