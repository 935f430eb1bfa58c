"""The text that says where a registry is (`zk://h1,h2/base`, host lists with a chroot) as a `Locator`. Pure."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from dockstack.model import Address
from dockstack.registry import Locator, Tls

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?:\?(?P<query>.*))?"
)
# Labels of 1 to 63 characters: others raise UnicodeError, and no OSError, where they are looked up.
_HOSTNAME = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TLS_OPTIONS = frozenset({"ca_file", "cert_file", "key_file", "verify"})
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class _Scheme:
    adapter: str
    port: int = 0
    tls: bool = False

    @property
    def options(self) -> frozenset[str]:
        return (frozenset({"session_timeout"}) if self.port else frozenset()) | (
            _TLS_OPTIONS if self.tls else frozenset()
        )


_SCHEMES: Mapping[str, _Scheme] = {
    "zk": _Scheme("zookeeper", 2181),
    "zks": _Scheme("zookeeper", 2181, tls=True),
    "etcd": _Scheme("etcd", 2379),
    "etcds": _Scheme("etcd", 2379, tls=True),
    "file": _Scheme("file"),
    "memory": _Scheme("memory"),
}


def is_host(text: str) -> bool:
    """Whether the text is a host name (letters, digits, `_`, `-`, `.`) or an IP literal without brackets or zone."""
    if ":" not in text:
        return _HOSTNAME.fullmatch(text) is not None
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text


def is_name(host: str) -> bool:
    """Whether a host is a name, which needs a lookup, and no address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def fold(path: str) -> str:
    """The path as ZooKeeper wants it: one leading slash, none doubled, none at the end; the empty path is `/`."""
    return "/" + "/".join(part for part in path.split("/") if part)


def parse_url(text: str) -> tuple[Locator, str]:
    """The locator in `SCHEME://[USER:PASSWORD@]HOST[:PORT],…/BASE[?OPTION=VALUE&…]`, and the base path.

    The base is the text as written (`/nerve`, `/nerve/`, or empty), because a service's path is appended to it as
    text. `file:///DIRECTORY` has its directory in the locator and an empty base. Raises ValueError with a sentence.
    """
    match = _URL.fullmatch(text.strip())
    if match is None or _CONTROL.search(text):
        raise ValueError("is no URL such as zk://HOST:2181/BASE or file:///DIRECTORY")
    scheme = _scheme(match["scheme"], text)
    authority, path = match["authority"] or "", match["path"]
    locator = _options(Locator(scheme.adapter, tls=Tls() if scheme.tls else None), scheme, match)
    if scheme.port:
        return _with_hosts(locator, authority, scheme.port, match["scheme"]), path
    if authority not in ("", "localhost"):
        raise ValueError(
            f"{match['scheme']}: has no host, {redacted(authority)!r} stands where one would be: "
            f"write {match['scheme']}:///{authority.rpartition('@')[2]}{path}"
        )
    if scheme.adapter == "file":
        if path in ("", "/"):
            raise ValueError(f"{text!r} names no directory: write file:///DIRECTORY")
        if not path.startswith("/"):
            raise ValueError(f"{text!r} is a relative directory: write it from the root, file:///DIRECTORY")
        return replace(locator, root=fold(_unquoted(path, "the directory"))), ""
    return locator, path


def parse_hosts(hosts: Sequence[str], default_port: int) -> tuple[tuple[Address, ...], str]:
    """The addresses in a host list, and its chroot (`""` if none).

    An entry may be a comma list of its own; spaces and empty places are ignored; an IPv6 address with a port stands in
    brackets. A chroot stands at the end of the list, or the same one behind every host. Raises ValueError.
    """
    parts = [part.strip() for entry in hosts for part in entry.split(",")]
    parts = [part for part in parts if part]
    if not parts:
        raise ValueError("the host list is empty: name at least one HOST:PORT")
    addresses: list[Address] = []
    chroots: list[str] = []
    for part in parts:
        if "://" in part:
            raise ValueError(f"{redacted(part)!r}: write it as HOST:PORT, without {part.partition('://')[0]}://")
        address, slash, chroot = part.partition("/")
        addresses.append(_address(address.strip(), default_port))
        chroots.append(fold(chroot) if slash and fold(chroot) != "/" else "")
    chroot = chroots[-1]
    if any(chroots[:-1]) and set(chroots) != {chroot}:
        raise ValueError(f"the hosts {', '.join(parts)} have different chroots: write one, at the end of the list")
    return tuple(addresses), chroot


def redacted(text: str) -> str:
    """What a user has written as a URL, without what stands before its hosts."""
    return re.sub(r"(//|^)[^/?#]*@", r"\1***@", text)


def _unquoted(text: str, what: str) -> str:
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"the % encoding of {what} in the URL is not UTF-8") from None
    if _CONTROL.search(plain):
        raise ValueError(f"{what} in the URL has a control character in it")
    return plain


def _suggestion(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"


def _scheme(name: str, text: str) -> _Scheme:
    try:
        return _SCHEMES[name]
    except KeyError:
        if "://" not in text:
            raise ValueError(f"is no URL: write zk://{redacted(text)}, etcd://… or file:///DIRECTORY") from None
        known = [one for one in _SCHEMES if one != "memory"]  # that one is for tests
        hint = "; did you mean zk?" if name.lower() == "zookeeper" else _suggestion(name.lower(), known)
        raise ValueError(f"unknown registry scheme {name!r}{hint}") from None


def _with_hosts(locator: Locator, authority: str, port: int, scheme: str) -> Locator:
    credentials, at, hosts = authority.rpartition("@")
    if not hosts.strip():
        raise ValueError(f"{scheme}://{redacted(authority)} names no host: write {scheme}://HOST:{port}/BASE")
    addresses, _ = parse_hosts([hosts], port)
    if not at:
        return replace(locator, hosts=addresses)
    user, colon, password = credentials.partition(":")
    if not user or not colon:
        raise ValueError(f"{scheme}://***@{hosts}: write user and password as USER:PASSWORD@, % encoded where needed")
    return replace(
        locator,
        hosts=addresses,
        username=_unquoted(user, "the user"),
        password=_unquoted(password, "the password"),
    )


def _options(locator: Locator, scheme: _Scheme, match: re.Match[str]) -> Locator:
    values: dict[str, str] = {}
    for pair in filter(None, (match["query"] or "").split("&")):
        name, _, value = pair.partition("=")
        if name in values:
            raise ValueError(f"the option {name} is given twice")
        if name in _TLS_OPTIONS and not scheme.tls and scheme.port:
            raise ValueError(f"the option {name} is for TLS: write {match['scheme']}s:// instead")
        if name not in scheme.options:
            if not scheme.options:
                raise ValueError(f"unknown option {name!r}: {match['scheme']}: takes none")
            raise ValueError(f"unknown option {name!r}{_suggestion(name, sorted(scheme.options))}")
        values[name] = _unquoted(value, f"the option {name}")
    if "session_timeout" in values:
        locator = replace(locator, session_timeout=_seconds(values["session_timeout"]))
    if scheme.tls:
        locator = replace(locator, tls=_tls(values))
    return locator


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"session_timeout={text} is not a number of seconds above 0")
    return value


def _tls(values: Mapping[str, str]) -> Tls:
    verify = values.get("verify", "true").lower()
    if verify not in _BOOLEANS:
        raise ValueError(f"verify={values['verify']} is neither true nor false")
    if values.get("key_file") and not values.get("cert_file"):
        raise ValueError("key_file is given without cert_file: a key belongs to a certificate")
    return Tls(
        ca_file=values.get("ca_file") or None,
        cert_file=values.get("cert_file") or None,
        key_file=values.get("key_file") or None,
        verify=_BOOLEANS[verify],
    )


def _address(text: str, default_port: int) -> Address:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not an IPv6 address in brackets with a port, such as [::1]:{default_port}")
        port = rest[1:] if rest else str(default_port)
    elif text.count(":") > 1:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, such as [::1]:{default_port}")
    else:
        host, colon, port = text.partition(":")
        port = port if colon else str(default_port)
    if not is_host(host):
        raise ValueError(f"{text!r}: {host!r} is neither a host name nor an IP address")
    if not (port.isascii() and port.isdigit()) or not 1 <= int(port[:6]) <= 65535:
        raise ValueError(f"{text!r}: port {port!r} is not between 1 and 65535")
    return Address(host, int(port))
