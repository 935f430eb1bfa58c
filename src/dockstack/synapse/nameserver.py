"""Asking DNS for the records of a name: the system's nameservers, or others.

The library (the extra `dns`) is imported by the first service that needs it.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dockstack.errors import ConfigurationError, DockStackError, Problem
from dockstack.model import Address
from dockstack.registry.url import is_name
from dockstack.synapse.lookups import NOWHERE, Kind, Question, Records, Service
from dockstack.synapse.names import looked_up

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver
    from dns.resolver import Answer

LIMIT = 5.0
"""Seconds that one question may take, all nameservers and tries together."""

ONE_TRY = 2.0
"""Seconds that one nameserver has for an answer, before the next is asked."""


class LookupFailed(DockStackError):
    """The records could not be read. What there were before may still be true."""


def require(where: str) -> None:
    """Raises ConfigurationError where the library is not installed; it is not imported here."""
    if importlib.util.find_spec("dns") is None:
        what = "needs the library dnspython, which is not installed: pip install 'dockstack[dns]'"
        raise ConfigurationError(Problem(where, what))


class Nameservers:
    """Asks the given servers, or, without any, those of the system, in their order."""

    def __init__(self, servers: Sequence[Address] = ()) -> None:
        self._servers = tuple(servers)
        self._resolver: Resolver | None = None

    async def records(self, question: Question) -> Records:
        """The records, in order, behind whatever aliases there are; none, or no such name, is an answer.

        A short name is completed as the system does it. An answer that UDP cuts off is asked for again by TCP. Raises
        LookupFailed within a deadline.
        """
        from dns.exception import DNSException
        from dns.resolver import NXDOMAIN

        try:
            async with asyncio.timeout(LIMIT):
                if self._resolver is None:
                    self._resolver = await self._opened()
                answer = await self._resolver.resolve(
                    question.name, question.kind, raise_on_no_answer=False, lifetime=LIMIT, search=True
                )
        except NXDOMAIN:
            return NOWHERE
        except TimeoutError:
            raise self._failed(f"no answer within {LIMIT:g} s") from None
        except DNSException as error:
            raise self._failed(_reason(error)) from error
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from error
        return Records(_values(answer, question.kind), float(answer.chaining_result.minimum_ttl))

    async def _opened(self) -> Resolver:
        from dns.asyncresolver import Resolver
        from dns.nameserver import Do53Nameserver

        if self._servers:
            resolver = Resolver(configure=False)
            resolver.nameservers = [
                Do53Nameserver((await looked_up(one.host))[0] if is_name(one.host) else one.host, one.port)
                for one in self._servers
            ]
        else:
            resolver = Resolver()
        resolver.timeout = ONE_TRY
        return resolver

    def _failed(self, reason: str) -> LookupFailed:
        """The error; the next question looks anew which nameservers there are."""
        self._resolver = None
        return LookupFailed(reason)


def _values(answer: Answer, kind: Kind) -> tuple[str | Service, ...]:
    records: Sequence[Any] = () if answer.rrset is None else list(answer.rrset)
    if kind == "SRV":
        return tuple(
            sorted(
                Service(one.priority, one.weight, one.port, one.target.to_text(omit_final_dot=True)) for one in records
            )
        )
    return tuple(sorted(str(one.address) for one in records))


def _reason(error: Exception) -> str:
    """Why, in words that do not change from one failure to the next."""
    from dns.exception import Timeout
    from dns.resolver import NoNameservers

    if isinstance(error, Timeout):
        return f"no answer within {LIMIT:g} s"
    if isinstance(error, NoNameservers):
        tries = error.kwargs.get("errors", ())
        said = dict.fromkeys(f"{str(one[0]).rpartition(':')[2]}: {_word(one[3])}" for one in tries)
        return ", ".join(said) or "no nameserver answers"
    return " ".join(str(error).split()) or type(error).__name__


def _word(what: object) -> str:
    if isinstance(what, OSError) and not isinstance(what, TimeoutError):
        return what.strerror or type(what).__name__
    return type(what).__name__ if isinstance(what, Exception) else str(what)
