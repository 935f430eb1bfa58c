"""One `server` line, read and written, and what its options mean. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dockstack.model import Address
from dockstack.synapse.haproxy.model import Server
from dockstack.synapse.haproxy.words import settings, split, without

MAX_WEIGHT = 256

# Anybody may write options in the registry: digits of other scripts and endless numbers are words like others.
_NUMBER = re.compile(r"[0-9]{1,10}")


def is_address(host: str) -> bool:
    """Whether a host is an IPv4 or IPv6 literal."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def number_in(word: str) -> int | None:
    """The number that a word of a line is, or None where HAProxy would not take it for one."""
    return int(word) if _NUMBER.fullmatch(word) else None


def address(text: str) -> Address:
    """`HOST:PORT` or `[HOST]:PORT` as an address. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    number = number_in(port)
    if not colon or number is None:
        raise ValueError(f"`{text}` has no port")
    return Address(host.removeprefix("[").removesuffix("]"), number)


def make(name: str, where: Address, words: Sequence[str]) -> Server:
    """The server that these words behind the address describe, in the one form that a file and a plan share."""
    rest = list(words)
    number = cookie = weight = None
    while len(rest) > 1 and rest[0] == "id" and (given := number_in(rest[1])) is not None:
        number, rest = given, rest[2:]
    if len(rest) > 1 and rest[0] == "cookie":
        cookie, rest = rest[1], rest[2:]
    found = list(settings(rest))
    disabled = bool(found) and found[-1] == ("disabled",)
    if disabled:
        found.pop()
    if found and found[-1][0] == "weight" and (given := number_in(found[-1][-1])) is not None:
        weight = given
        found.pop()
    options = " ".join(" ".join(one) for one in found)
    named = named_id(options)
    return Server(name, where, number if named is None else named, cookie, options, weight, disabled)


def named_id(options: str) -> int | None:
    """The `id N` among server options; the last one counts."""
    if "id " not in options:
        return None
    ids = [number_in(one[-1]) for one in settings(split(options)) if one[0] == "id"]
    return next((number for number in reversed(ids) if number is not None), None)


def read(line: str) -> Server:
    """A `server NAME ADDRESS …` line as a server. Raises ValueError."""
    words = split(line)
    if len(words) < 3 or words[0] != "server":
        raise ValueError(f"`{line}` is no server line")
    return make(words[1], address(words[2]), words[3:])


def write(server: Server) -> str:
    """The server's line, without indentation; an IPv6 address has no brackets, as in SmartStack's lines."""
    return f"server {server.name} {server.address.host}:{server.address.port}{arguments(server)}"


def arguments(server: Server) -> str:
    """What stands behind the address, each word after a space."""
    return "".join(
        (
            f" id {server.id}" if server.id is not None and named_id(server.options) is None else "",
            f" cookie {server.cookie}" if server.cookie is not None else "",
            f" {server.options}" if server.options else "",
            f" weight {server.weight}" if server.weight is not None else "",
            " disabled" if server.disabled else "",
        )
    )


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a server's options, behind those that it inherits from `default-server`, come to."""

    checked: bool
    agent: bool
    cuts_sessions: bool
    keywords: frozenset[str]


def meaning(server: Server, inherited: str) -> Meaning:
    """What the options come to; a later word overrules an earlier one."""
    found = list(settings(split(f"{inherited} {server.options}")))
    last = {one[0]: one[-1] for one in found}
    switches = [one[0] for one in found if one[0] in ("check", "no-check", "agent-check", "no-agent-check")]
    checks = [word for word in switches if word.endswith("no-check") or word == "check"]
    agents = [word for word in switches if "agent" in word]
    return Meaning(
        checked=checks[-1:] == ["check"],
        agent=agents[-1:] == ["agent-check"],
        cuts_sessions=last.get("on-marked-down") == "shutdown-sessions",
        keywords=frozenset(last),
    )


def weight(server: Server, inherited: str) -> int:
    """The weight that the line gives the server; HAProxy's own default is 1."""
    if server.weight is not None:
        return server.weight
    if "weight" not in inherited and "weight" not in server.options:
        return 1
    given = [one[1] for one in settings(split(f"{inherited} {server.options}")) if one[0] == "weight" and len(one) > 1]
    digits = "".join(char for char in (given or ["1"])[-1] if char in "0123456789")
    return int(digits[:10] or 1)


def is_disabled(server: Server) -> bool:
    """Whether the line keeps the server out of service."""
    if server.disabled or "disabled" not in server.options:
        return server.disabled
    return any(one[0] == "disabled" for one in settings(split(server.options)))


def same_options(one: str, other: str) -> bool:
    """Whether two servers' options are the same but for weight and for being disabled, which commands can change."""
    return one == other or _plain(one) == _plain(other)


def _plain(options: str) -> str:
    return without(options, "weight", "disabled", "enabled")
