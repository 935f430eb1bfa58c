"""Which section of a proxy a configuration line belongs to, by its keyword: the facts, as a table. Pure.

The sides of the keywords up to HAProxy 1.6 are those that SmartStack's synapse goes by, one apart (see `_BACKEND`);
the newer ones are HAProxy's own. What HAProxy no longer takes is listed with what to write instead (measured on 2.6,
2.8, 3.0 and 3.2).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Side(enum.Flag):
    """Where a line may stand."""

    FRONTEND = enum.auto()
    BACKEND = enum.auto()
    BOTH = FRONTEND | BACKEND


@dataclass(frozen=True, slots=True)
class Keyword:
    """`sides`: where a line may stand; `listen`: where a line meant for both goes. `newer`: SmartStack dropped it.

    `instead` is what to write for a keyword that HAProxy no longer takes.
    """

    name: str
    sides: Side
    listen: Side
    newer: bool = False
    instead: str | None = None


# A line is one word, or `HEAD: REST …` for keywords of several words (`+` joins words of the rest).
_BOTH = """
acl compression description disabled enabled errorfile errorloc errorloc302 errorloc303 force-persist
http-request http-response ignore-persist log log-format log-format-sd log-tag mode redirect
email-alert: from level mailers myhostname to
option: forwardfor http-buffer-request http-keep-alive http-no-delay http-server-close
option: httpclose httplog independent-streams nolinger originalto splice-auto splice-request splice-response
option: tcpka tcplog
stats: admin auth enable hide-version http-request realm refresh scope show-desc show-legends show-node uri
tcp-request: content inspect-delay
timeout: http-keep-alive http-request tarpit
"""
# `option http-pretend-keepalive` has never had an effect in a frontend, where HAProxy 3.2 refuses the file for it.
_BACKEND = """
balance cookie default-server dispatch fullconn hash-type http-reuse http-send-name-header
load-server-state-from-file max-keep-alive-queue retries server server-state-file-name source stick-table transparent
use-server
external-check: command path
http-check: disable-on-404 expect send-state
option: abortonclose accept-invalid-http-response allbackups checkcache external-check http-pretend-keepalive httpchk
option: ldap-check log-health-checks mysql-check persist pgsql-check prefer-last-server redis-check redispatch smtpchk
option: srvtcpka ssl-hello-chk tcp-check tcp-smart-connect transparent
persist: rdp-cookie
stick: match on store-request store-response
tcp-check: connect expect send send-binary
tcp-response: content inspect-delay
timeout: check connect queue server server-fin tunnel
"""
_FRONTEND = """
backlog bind default_backend maxconn unique-id-format unique-id-header use_backend
capture: cookie request+header response+header
declare: capture
monitor: fail
monitor-uri
option: accept-invalid-http-request clitcpka contstats dontlog-normal dontlognull http-ignore-probes
option: http-use-proxy-header log-separate-errors logasap socket-stats tcp-smart-accept
rate-limit: sessions
tcp-request: connection
timeout: client client-fin
"""
_NEWER_BOTH = """
errorfiles http-error
option: http-restrict-req-hdr-names
"""
_NEWER_BACKEND = """
hash-balance-factor http-check retry-on server-template srvtcpka-cnt srvtcpka-idle srvtcpka-intvl tcp-check
option: forwarded h1-case-adjust-bogus-server
tcp-check: send-binary-lf send-lf
"""
_NEWER_FRONTEND = """
clitcpka-cnt clitcpka-idle clitcpka-intvl error-log-format filter http-after-response
option: disable-h2-upgrade h1-case-adjust-bogus-client idle-close-on-response
tcp-request: session
timeout: client-hs
"""
_REMOVED = {
    "appsession": "a `stick-table` or a `cookie` line",
    "bind-process": "nothing: leave it out (`thread` on a bind line chooses threads)",
    "block": "`http-request deny` with the same condition",
    "clitimeout": "`timeout client`",
    "contimeout": "`timeout connect`",
    "grace": "`hard-stop-after` in the global section",
    "monitor-net": "`http-request return status 200 if { src NETWORK }`",
    "option allredisp": "`option redispatch`",
    "option forceclose": "`option httpclose`, or nothing",
    "option http-tunnel": "nothing: remove the line",
    "option http_proxy": "`http-request set-dst`",
    "option lb-agent-chk": "`agent-check` among the server options",
    "redisp": "`option redispatch`",
    "redispatch": "`option redispatch`",
    "reqadd": "`http-request add-header`",
    "reqallow": "`http-request allow`",
    "reqdel": "`http-request del-header`",
    "reqdeny": "`http-request deny`",
    "reqiallow": "`http-request allow`",
    "reqidel": "`http-request del-header`",
    "reqideny": "`http-request deny`",
    "reqipass": "`http-request allow`",
    "reqirep": "`http-request replace-header`",
    "reqisetbe": "`use_backend`",
    "reqitarpit": "`http-request tarpit`",
    "reqpass": "`http-request allow`",
    "reqrep": "`http-request replace-path`, `replace-uri` or `replace-header`",
    "reqsetbe": "`use_backend`",
    "reqtarpit": "`http-request tarpit`",
    "rspadd": "`http-response add-header`",
    "rspdel": "`http-response del-header`",
    "rspdeny": "`http-response deny`",
    "rspidel": "`http-response del-header`",
    "rspideny": "`http-response deny`",
    "rspirep": "`http-response replace-header`",
    "rsprep": "`http-response replace-header`",
    "srvtimeout": "`timeout server`",
    "timeout clitimeout": "`timeout client`",
    "timeout contimeout": "`timeout connect`",
    "timeout srvtimeout": "`timeout server`",
}
_NOT_NEGATED = """
allredisp external-check forwardfor http-restrict-req-hdr-names httpchk httplog lb-agent-chk ldap-check
mysql-check originalto pgsql-check redis-check smtpchk ssl-hello-chk tcp-check tcpka tcplog
"""
_NO_NEGATION = frozenset(_NOT_NEGATED.split())


def _entries(block: str) -> list[str]:
    names = []
    for line in block.split("\n"):
        head, colon, rest = line.partition(": ")
        if colon:
            names += [f"{head} {one.replace('+', ' ')}" for one in rest.split()]
        else:
            names += line.split()
    return names


def _begins_as_an_old_one(name: str) -> bool:
    """Whether SmartStack, which looks only at how a line begins, has let it through: `server-template` for `server`."""
    return name.startswith(tuple(_entries(_BOTH + _BACKEND + _FRONTEND)))


def _table() -> Mapping[str, Keyword]:
    table: dict[str, Keyword] = {}
    # The newer heads `http-check` and `tcp-check` stand for all their rules; a longer known name goes before them.
    for block, side, newer in (
        (_BOTH, Side.BOTH, False),
        (_BACKEND, Side.BACKEND, False),
        (_FRONTEND, Side.FRONTEND, False),
        (_NEWER_BOTH, Side.BOTH, True),
        (_NEWER_BACKEND, Side.BACKEND, True),
        (_NEWER_FRONTEND, Side.FRONTEND, True),
    ):
        for name in _entries(block):
            table[name] = Keyword(name, side, side, newer and not _begins_as_an_old_one(name))
    # A frontend and a backend of one name cannot share an id.
    table["id"] = Keyword("id", Side.BOTH, Side.BACKEND)
    table["guid"] = Keyword("guid", Side.BOTH, Side.BACKEND, newer=True)
    for name, instead in _REMOVED.items():
        table[name] = Keyword(name, Side.BOTH, Side.BOTH, instead=instead)
    return MappingProxyType(table)


_TABLE = _table()
_LONGEST = max(len(name.split()) for name in _TABLE)


def known() -> tuple[Keyword, ...]:
    """The whole table, without negations."""
    return tuple(_TABLE.values())


def lookup(line: str) -> Keyword | None:
    """The keyword that a line begins with, matched on whole words in any case, or None for an unknown one.

    `no` belongs to the keyword: it stands before `log` and before options that can be negated.
    """
    words = [word.lower() for word in line.split()]
    negated = words[:1] == ["no"]
    if negated:
        words = words[1:]
    for length in range(min(_LONGEST, len(words)), 0, -1):
        found = _TABLE.get(" ".join(words[:length]))
        if found is not None:
            return _negative(found) if negated else found
    return None


def _negative(keyword: Keyword) -> Keyword | None:
    head, _, option = keyword.name.partition(" ")
    name = f"no {keyword.name}"
    if head == "option" and option in _NO_NEGATION and keyword.instead is None:
        instead = "nothing: leave the option out where it is not wanted; HAProxy cannot negate it"
        return Keyword(name, keyword.sides, keyword.listen, keyword.newer, instead)
    if head == "option" or keyword.name == "log":
        return Keyword(name, keyword.sides, keyword.listen, keyword.newer, keyword.instead)
    return None
