"""Up when a GET answers 200-399 and, with `expect`, the answer contains that text."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING
from urllib.parse import quote

from dockstack.model import Address
from dockstack.nerve.checks import Check, Unhealthy
from dockstack.settings.nerve import HttpCheck

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_LONGEST_BODY = 1 << 20  # bytes that are searched for `expect`
_AS_WRITTEN = bytes(range(0x21, 0x7F)).decode()  # what stands in a URI as the user has written it; the rest is quoted


def build(settings: HttpCheck, target: Address) -> Check:
    """The check with its TLS context; raises OSError when `ca_file` cannot be read."""
    import aiohttp  # noqa: F401 - at the start, where there is time for it

    context = _tls(settings) if settings.ssl else None
    path = quote(settings.uri if settings.uri.startswith("/") else f"/{settings.uri}", safe=_AS_WRITTEN)

    async def check(target: Address) -> None:
        await get(settings, target, path, context)

    return check


def warnings(settings: HttpCheck) -> tuple[str, ...]:
    """What an operator should know about these settings."""
    if settings.verify or not any(name.lower() == "authorization" for name in settings.headers):
        return ()
    if not settings.ssl:
        return ("sends an Authorization header in clear text: set ssl: true and verify: true",)
    return ("sends an Authorization header to a server whose certificate is not verified: set verify: true",)


async def get(settings: HttpCheck, target: Address, path: str, context: ssl.SSLContext | None) -> None:
    """One request on a new connection; raises Unhealthy, OSError or TimeoutError.

    Redirections are an answer (300-399), not followed. The TLS handshake shares its time with the connection:
    `open_timeout` + `ssl_timeout`; `read_timeout` is the longest silence, the check's deadline ends the whole.
    """
    import aiohttp
    from yarl import URL

    host = f"[{target.host}]" if ":" in target.host else target.host
    url = URL(f"{'https' if context else 'http'}://{host}:{target.port}{path}", encoded=True)
    # A session for each request: a connection that is kept would hide that no new one can be made.
    connector = aiohttp.TCPConnector(force_close=True, use_dns_cache=False, ssl=context or False)
    timeout = aiohttp.ClientTimeout(
        total=None,
        sock_connect=settings.open_timeout + (settings.ssl_timeout if context else 0),
        sock_read=settings.timeout if settings.read_timeout is None else settings.read_timeout,
    )
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout, trust_env=False
            ) as session,
            session.get(
                url,
                headers={"Accept-Encoding": "identity", **settings.headers},
                allow_redirects=False,
                server_hostname=settings.server_name if context else None,
            ) as response,
        ):
            await _judge(response, settings.expect)
    except aiohttp.ClientError as error:
        if isinstance(error, OSError):
            raise
        raise Unhealthy(str(error) or type(error).__name__) from error


async def _judge(response: ClientResponse, expect: str | None) -> None:
    if not 200 <= response.status <= 399:
        raise Unhealthy(f"answered {response.status} {response.reason or ''}".rstrip())
    wanted, body = (expect or "").encode(), bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if expect is not None and body.find(wanted, max(0, len(body) - len(piece) - len(wanted))) >= 0:
            return
        if len(body) >= _LONGEST_BODY:
            break
    if expect:
        begin = body[:60].decode(errors="replace")
        raise Unhealthy(f"the answer of {len(body)} bytes does not contain {expect!r}: it begins {begin!r}")


def _tls(settings: HttpCheck) -> ssl.SSLContext:
    if settings.verify:
        return ssl.create_default_context(cafile=settings.ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's certificates, which take 20 ms to load
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
