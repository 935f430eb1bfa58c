"""Up when a Redis server answers PING and EXISTS, and with `role`, when it has that role.

A connection for each round: one that is kept would hide that no new one can be made (maxclients, a changed password).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.nerve.checks._tls import FAREWELL, context_of
from dockstack.plugins import extra
from dockstack.settings.nerve import RedisCheck

if TYPE_CHECKING:
    import ssl

    from redis.asyncio import Connection

_KEY = "nerve-redis-service-check"
_SAME = {"replica": "slave"}


def build(settings: RedisCheck, target: Address) -> Check:
    """The check with its TLS context; raises ValueError without the client, OSError when a file cannot be used."""
    with extra("redis", "the redis check"):
        import redis.asyncio  # noqa: F401 - at the start, where there is time for it
    context = context_of(settings.tls)

    async def check(target: Address) -> None:
        await ask(settings, target, context)

    return check


async def ask(settings: RedisCheck, target: Address, context: ssl.SSLContext | None) -> None:
    """One conversation on a connection of its own; raises Unhealthy with the server's own words, OSError."""
    from redis import exceptions

    connection = _connection(settings, target, context)
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_command("PING")
        await connection.read_response()
        await connection.send_command("EXISTS", _KEY)
        await connection.read_response()
        if settings.role is not None:
            await connection.send_command("ROLE")
            judge_role(await connection.read_response(), settings.role)
    except exceptions.RedisError as error:
        cause = error.__context__
        if isinstance(cause, OSError) and cause.errno:
            raise cause from None
        ours = type(error) in (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.InvalidResponse)
        raise Unhealthy(str(error) if ours else f"the server says: {error}") from error
    except ValueError as error:  # of the stream: a line without an end
        raise Unhealthy("this is no Redis server: its answer is not of the protocol") from error
    finally:
        await connection.disconnect(nowait=True)


def judge_role(answer: object, wanted: str) -> None:
    """Returns when the answer to ROLE is the wanted role; raises Unhealthy with the other one."""
    first = answer[0] if isinstance(answer, list) and answer else answer
    role = first.decode(errors="replace") if isinstance(first, bytes) else str(first)
    if role != _SAME.get(wanted, wanted):
        raise Unhealthy(f"the role is {role}, not {wanted}")


def _connection(settings: RedisCheck, target: Address, context: ssl.SSLContext | None) -> Connection:
    from redis.asyncio import Connection

    class Wire(Connection):
        def _connection_arguments(self) -> Mapping[str, object]:
            plain = super()._connection_arguments()
            return {**plain, "ssl": context, "ssl_shutdown_timeout": FAREWELL} if context else plain

    return Wire(
        host=target.host,
        port=target.port,
        username=settings.username,
        password=settings.password,
        protocol=2,  # every Redis speaks it
        driver_info=None,
        socket_timeout=None,  # the check has a deadline
        socket_connect_timeout=None,
    )
