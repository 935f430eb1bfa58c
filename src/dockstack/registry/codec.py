"""What a registered instance looks like in a registry: nerve's JSON and node names, and Finagle serversets. Pure.

What is read is checked for what would break a HAProxy configuration, so that one bad node can be skipped by name.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dockstack.model import Instance
from dockstack.registry import Decoder, Registration, Snapshot
from dockstack.registry.url import fold, is_host

_LONGEST_ENCODED_NAME = 65_536
_MOST_TOLD = 400
_SEQUENCE = re.compile(r"_([0-9]{1,20})\Z")
_NUMBER = re.compile(r"[0-9]{1,20}")
_ENCODED_NAME = re.compile(r"base64_([0-9]{1,7})_")
_ENCODED_NAME_END = re.compile(r"(?:_([0-9]{1,20})?)?\Z")
_UNFIT_IN_WORD = re.compile(r"[\s\x00-\x1f\x7f-\x9f'\"\\#]")
_UNFIT_IN_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What HAProxy replaces by a variable of its environment, which may hold passwords: options can send it anywhere.
_ENVIRONMENT = re.compile(r"""(?:[^"'\\]|\\.|'[^']*'|"(?:[^"\\$]|\\.)*+")*+"(?:[^"\\$]|\\.)*+\$""")
_NULLABLE = frozenset({"haproxy_server_options", "labels"})


@dataclass(frozen=True, slots=True)
class NerveDecoder:
    """Reads what nerve writes: a JSON map with host and port, in the node's data or in a `base64_` name."""

    def from_name(self, name: str) -> Instance | None:
        """The instance in a `base64_LEN_TEXT[_NUMBER]` name; None for any other name, or one that does not decode."""
        return _from_name(name, self)

    def from_data(self, name: str, data: bytes) -> Instance:
        """The instance in the data, with the id from the name; raises ValueError with the reason."""
        return self.from_fields(_json_map(data), id_of(name))

    def from_fields(self, fields: Mapping[str, object], number: int | None) -> Instance:
        """The instance in a JSON map; keys that are not nerve's are ignored. Raises ValueError."""
        return _instance(fields, fields.get("name"), number)


@dataclass(frozen=True, slots=True)
class ServersetDecoder:
    """Reads Finagle serverset members: `serviceEndpoint`, or the additional endpoint of that name."""

    endpoint_name: str | None = None

    def from_name(self, name: str) -> Instance | None:
        """The member in a `base64_LEN_TEXT[_NUMBER]` name; None for any other name, or one that does not decode."""
        return _from_name(name, self)

    def from_data(self, name: str, data: bytes) -> Instance:
        """The member's instance, named by its shard; raises ValueError with the reason."""
        return self.from_fields(_json_map(data), id_of(name))

    def from_fields(self, fields: Mapping[str, object], number: int | None) -> Instance:
        """The instance of the chosen endpoint, which also has what else nerve's map may have, such as a weight.

        Raises ValueError where the member has no such endpoint.
        """
        endpoint, what = fields.get("serviceEndpoint"), "serviceEndpoint"
        if self.endpoint_name is not None:
            others = fields.get("additionalEndpoints")
            endpoint = others.get(self.endpoint_name) if isinstance(others, dict) else None
            what = f"additionalEndpoints.{self.endpoint_name}"
        if not isinstance(endpoint, dict):
            raise ValueError(f"the serverset member has no {what}")
        return _instance(endpoint, fields.get("shard"), number)


class Decoding:
    """Turns the nodes of one path into snapshots, and decodes a node again only when its data is new."""

    def __init__(self, path: str, decoder: Decoder) -> None:
        self._path = path
        self._decoder = decoder
        self._known: dict[str, tuple[bytes, Instance | str]] = {}

    def snapshot(self, nodes: Mapping[str, bytes], data: bytes = b"", problems: tuple[str, ...] = ()) -> Snapshot:
        """What is in the nodes (name → data), by name; a bad one is named in the problems, behind the given ones."""
        known = {name: self._decoded(name, nodes[name]) for name in sorted(nodes)}
        self._known = known
        return Snapshot(
            instances=tuple(item for _, item in known.values() if isinstance(item, Instance)),
            data=data,
            problems=(*problems, *(item for _, item in known.values() if isinstance(item, str))),
        )

    def _decoded(self, name: str, data: bytes) -> tuple[bytes, Instance | str]:
        before = self._known.get(name)
        if before is not None and before[0] == data:
            return before
        try:
            return data, self._decoder.from_name(name) or self._decoder.from_data(name, data)
        except ValueError as error:
            return data, f"{fold(self._path)}/{_short(name)}: {_short(str(error))}"


def _short(text: str) -> str:
    """The text, as much of it as fits in a line of a log: a node may hold a megabyte."""
    return text if len(text) <= _MOST_TOLD else f"{text[:_MOST_TOLD]}… ({len(text)} characters)"


def sequence_of(name: str) -> int | None:
    """The number behind the last underscore of a node's name (ZooKeeper's sequence), or None."""
    match = _SEQUENCE.search(name)
    return int(match[1]) if match else None


def id_of(name: str) -> int | None:
    """The id of the instance in a node of this name: its sequence, or the whole name where that is a number."""
    return int(name) if _NUMBER.fullmatch(name) else sequence_of(name)


def encode(registration: Registration) -> bytes:
    """The registration's data, byte for byte as nerve writes it: compact JSON in nerve's key order.

    Raises ValueError where the instance is not fit to be registered.
    """
    instance = registration.instance
    if instance.name is None:
        raise ValueError("an instance without a name cannot be registered")
    unknown = set(registration.nulls) - _NULLABLE
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} cannot be null")
    _check_word("name", instance.name)
    fields = {
        "host": compact(_host(instance.host)),
        "port": compact(_port(instance.port)),
        "name": compact(instance.name),
    }
    if instance.weight is not None:
        fields["weight"] = compact(_weight(instance.weight))
    if instance.haproxy_server_options is not None:
        fields["haproxy_server_options"] = compact(_options(instance.haproxy_server_options))
    elif "haproxy_server_options" in registration.nulls:
        fields["haproxy_server_options"] = "null"
    if instance.labels is not None:
        _json_map(instance.labels.encode())
        fields["labels"] = instance.labels
    elif "labels" in registration.nulls:
        fields["labels"] = "null"
    return ("{" + ",".join(f'"{key}":{text}' for key, text in fields.items()) + "}").encode()


def node_prefix(registration: Registration) -> str:
    """What stands in the node's name before the sequence number: `NAME_`, or `base64_LEN_TEXT_`.

    The plain name is used where the encoded one would be longer than 65,536 characters. Raises ValueError.
    """
    data = encode(registration)
    name = f"{registration.instance.name}_"
    if "/" in name:
        raise ValueError(f"the name {registration.instance.name!r} has a slash: it would be two nodes")
    if registration.path_encoding:
        text = base64.urlsafe_b64encode(data).decode()
        encoded = f"base64_{len(text)}_{text}_"
        if len(encoded) <= _LONGEST_ENCODED_NAME:
            return encoded
    return name


def compact(value: object) -> str:
    """The value as compact JSON as Ruby writes it: UTF-8 and `/` unescaped, floats as `1.0e+16`.

    Raises ValueError for what JSON cannot hold: non-finite numbers, lone surrogates, other types, endless nesting.
    """
    try:
        text = _compact(value)
        text.encode()
    except RecursionError:
        raise ValueError("the value is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a text in the value has half of a surrogate pair and cannot be written as UTF-8") from None
    return text


def _compact(value: object) -> str:
    match value:
        case None | int() | str():
            return json.dumps(value, ensure_ascii=False)
        case float():
            return _float(value)
        case list() | tuple():
            return "[" + ",".join(map(_compact, value)) + "]"
        case Mapping():
            return "{" + ",".join(f"{_key(key)}:{_compact(item)}" for key, item in value.items()) + "}"
    raise ValueError(f"a {type(value).__name__} cannot be written as JSON")


def _key(key: object) -> str:
    if isinstance(key, str):
        return json.dumps(key, ensure_ascii=False)
    if isinstance(key, int | float):
        return f'"{_compact(key)}"'
    raise ValueError(f"a {type(key).__name__} cannot be a key in JSON")


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"the number {value} cannot be written as JSON")
    digits, exponent, power = repr(value).partition("e")
    return digits + (".0" if exponent and "." not in digits else "") + exponent + power


def _from_name(name: str, decoder: NerveDecoder | ServersetDecoder) -> Instance | None:
    start = _ENCODED_NAME.match(name)
    if start is None:
        return None
    end = start.end() + int(start[1])
    rest = _ENCODED_NAME_END.match(name, end)
    text = name[start.end() : end]
    if rest is None or len(text) != int(start[1]):
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return decoder.from_fields(_json_map(data), int(rest[1]) if rest[1] else None)
    except (ValueError, binascii.Error):
        return None


def _refuse_constant(word: str) -> object:
    raise ValueError(f"{word} is not a number in JSON")


def _json_map(data: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"the data is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the data is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("the data is not usable JSON: it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("the data is JSON, but no map with host and port")
    return value


def _instance(fields: Mapping[str, object], name: object, number: int | None) -> Instance:
    options, labels, weight = fields.get("haproxy_server_options"), fields.get("labels"), fields.get("weight")
    if labels is not None and not isinstance(labels, dict):
        raise ValueError("the labels are no map")
    return Instance(
        host=_host(fields.get("host")),
        port=_port(fields.get("port")),
        name=_name(name),
        id=number,
        weight=None if weight is None else _weight(weight),
        haproxy_server_options=None if options is None else _options(options),
        labels=None if labels is None else compact(labels),
    )


def _check_word(what: str, text: str) -> None:
    bad = _UNFIT_IN_WORD.search(text)
    if bad:
        raise ValueError(f"the {what} {text!r} has {bad[0]!r} in it: spaces, quotes, \\ and # break HAProxy's line")
    compact(text)


def _host(value: object) -> str:
    if value is None or value == "":
        raise ValueError("there is no host")
    if not isinstance(value, str):
        raise ValueError(f"the host {value!r} is no text")
    _check_word("host", value)
    host = value[1:-1] if value.startswith("[") and value.endswith("]") and ":" in value else value
    if not is_host(host):
        raise ValueError(f"the host {value!r} is neither a host name nor an IP address")
    return host


def _port(value: object) -> int | str:
    if value is None:
        raise ValueError("there is no port")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"the port {value!r} is neither a number nor digits")
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 5):
        raise ValueError(f"the port {value!r} is not a number of digits from 1 to 65535")
    if not 1 <= int(value) <= 65535:
        raise ValueError(f"the port {value!r} is not between 1 and 65535")
    return value


def _name(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"the name {value!r} is no text")
    name = value if isinstance(value, str) else compact(value)
    _check_word("name", name)
    return name


def _weight(value: object) -> int | float | str:
    if not isinstance(value, str | int | float):
        raise ValueError(f"the weight {value!r} is no number")
    compact(value)
    return value


def _options(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"the haproxy_server_options {value!r} are no text")
    if _UNFIT_IN_LINE.search(value):
        raise ValueError(f"the haproxy_server_options {value!r} have a line break or a control character in them")
    if _ENVIRONMENT.match(value):
        raise ValueError(f"the haproxy_server_options {value!r} have a $ in quotes: it would read the environment")
    compact(value)
    return value
