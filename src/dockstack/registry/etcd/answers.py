"""What etcd's JSON gateway answers: an object, or a refusal with a reason. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dockstack.errors import RegistryUnavailable

# Codes of gRPC.
NOT_FOUND = 5
_FAILED_PRECONDITION = 9
_UNAVAILABLE = 14
_UNAUTHENTICATED = 16

_ELSEWHERE = frozenset({1, 4, 13, _UNAVAILABLE})  # and canceled, deadline exceeded, internal

# Refusals of a token with another code (etcd's rpctypes): users were turned on, or their rights changed, after it was
# given, which a JWT does not outlive.
_STALE = ("user name is empty", "revision of auth store is old")

_ADVICE = (
    ("permission denied", "the user needs the right to read the path and all keys below it, nerve's to write them too"),
    ("invalid user ID or password", "correct the user and the password"),
    ("user name is empty", "it wants a user and a password"),
    ("HTTP status 404", "is this the client port of etcd 3.4 or newer?"),
    ("HTTP request to an HTTPS server", "write etcds:// in place of etcd://, or the TLS settings in a file"),
)

Fields = Mapping[str, Any]


class Refused(RegistryUnavailable):
    """The answer of the member at `where` was no; `code` is that of gRPC."""

    def __init__(self, where: str, code: int, said: str) -> None:
        advice = next((f": {advice}" for words, advice in _ADVICE if words in said), "")
        super().__init__(f"etcd {where}: {said}{advice}")
        self.code = code
        self.stale = code == _UNAUTHENTICATED or any(words in said for words in _STALE)
        """Whether the token is to blame."""
        self.no_users = code == _FAILED_PRECONDITION and "authentication is not enabled" in said
        """Whether nobody can log in, and nobody has to."""

    @property
    def elsewhere(self) -> bool:
        """Whether it lies with the member, and not with what was asked: another one may know better."""
        return self.code in _ELSEWHERE


def answer_of(where: str, content: bytes | bytearray) -> Fields:
    """The object in an answer: it has a header or an error, or one of the two as a stream's result.

    Raises RegistryUnavailable for what is no answer of etcd's.
    """
    try:
        fields = json.loads(content)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not fields.keys() & {"header", "result", "error", "code"}:
        shown = bytes(content[:100]).decode(errors="replace")
        raise RegistryUnavailable(
            f"etcd {where}: this is no answer of etcd's: {shown!r}: is this the client port of etcd 3.4 or newer?"
        )
    return fields


def ranges(answer: Fields, count: int) -> list[Fields]:
    """The answers to the `count` ranges that a transaction asked for, in their order.

    Raises RegistryUnavailable where one is missing: that is not an empty range.
    """
    responses = answer.get("responses")
    parts = responses if isinstance(responses, list) else []
    found: list[Fields] = [
        part for one in parts if isinstance(one, dict) and isinstance(part := one.get("response_range"), dict)
    ]
    if len(found) != count or len(parts) != count:
        raise RegistryUnavailable(
            f"etcd answered {len(found)} of {count} ranges: does a proxy before it change its answers?"
        )
    return found


def message(where: str, text: bytes) -> Fields:
    """The message in one line of a stream. Raises Refused, or RegistryUnavailable."""
    fields = answer_of(where, text)
    if "error" in fields:
        raise refusal(where, 200, text)
    result = fields.get("result")
    return result if isinstance(result, dict) else {}


def refusal(where: str, status: int, content: bytes | bytearray) -> Refused:
    """The error in an answer; an answer of somebody else, such as a proxy, counts as a member that is not there.

    Until etcd 3.5 the gateway writes `{"error": text, "message", "code"}`, and in a stream `{"error": {"grpc_code",
    "message"}}`; from 3.6 on `{"code", "message"}` and `{"error": {"code", "message"}}` (grpc-gateway 1 and 2).
    """
    try:
        fields = answer_of(where, content)
    except RegistryUnavailable:
        fields = {}
    inner = fields.get("error")
    if isinstance(inner, dict):
        fields = inner
    code = fields.get("grpc_code", fields.get("code"))
    if isinstance(code, int):
        return Refused(where, code, str(fields.get("message") or inner or f"refused with code {code}"))
    shown = bytes(content[:200]).decode(errors="replace").strip()
    return Refused(where, _UNAVAILABLE, f"HTTP status {status}: {shown}" if shown else f"HTTP status {status}")
