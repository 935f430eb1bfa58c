"""Clients of Amazon's services: region, credentials, endpoint and deadlines, and one error for all that can fail.

The library (the extra `aws`) is imported by the first service that needs it. It holds descriptions of what it can ask,
30 MB for EC2 alone: they are read once, and not on the event loop.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from dockstack.errors import ConfigurationError, DockStackError, Problem

LIMIT = 10.0
"""Seconds that one request may take."""

_CONNECT = 3.0
_DEFAULT_REGION = "us-east-1"
_DESCRIPTIONS = ("service-2", "endpoint-rule-set-1")

Client = Any
"""A client of the library, whose methods are those of the service."""


class AwsUnavailable(DockStackError):
    """The service could not be asked, or refused to answer. Nothing is known: never the same as an empty answer."""


@dataclass(frozen=True, slots=True)
class Access:
    """Which region, and as whom. What is None is taken from the environment (AWS_REGION, AWS_ACCESS_KEY_ID, …), and
    what is not there either is as the library finds it: files of AWS' tools, the profile of the instance."""

    region: str | None = None
    key: str | None = None
    secret: str | None = field(default=None, repr=False)


def access(where: str, region: str | None, key: str | None, secret: str | None) -> Access:
    """The access that the settings at `where` name; a half of the credentials is completed by the environment.

    Raises ConfigurationError where the other half is nowhere, and where the library is not installed.
    """
    require(where)
    if key is None and secret is None:
        return Access(region)
    key, secret = key or os.environ.get("AWS_ACCESS_KEY_ID"), secret or os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        given, lacking = ("aws_secret_access_key", "aws_access_key_id")[:: 1 if secret else -1]
        what = f"{given} is given, and neither {lacking} nor {lacking.upper()} in the environment"
        raise ConfigurationError(Problem(where, what))
    return Access(region, key, secret)


def require(where: str) -> None:
    """Raises ConfigurationError where the library is not installed; it is not imported here."""
    if importlib.util.find_spec("aiobotocore") is None:
        what = "needs the library aiobotocore, which is not installed: pip install 'dockstack[aws]'"
        raise ConfigurationError(Problem(where, what))


@asynccontextmanager
async def client(service: str, access: Access) -> AsyncIterator[Client]:
    """A client of `ec2` or `s3` while the context is open. AWS_ENDPOINT_URL names another place that speaks the same.

    Whatever it meets inside becomes AwsUnavailable: refusals, throttling, missing credentials, a deadline.
    """
    loader = await asyncio.to_thread(_described, service)
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session
    from aiohttp import ClientError as ConnectionFailed
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    # Whoever asks tries again (see runtime.loops), and says so: the library must not do it as well.
    elsewhere = any(name.startswith("AWS_ENDPOINT_URL") for name in os.environ)
    config = AioConfig(
        connect_timeout=_CONNECT,
        read_timeout=LIMIT,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"} if elsewhere else None,
    )
    try:
        session = get_session()
        session.register_component("data_loader", loader)
        region = access.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        async with AsyncExitStack() as stack:
            opened = session.create_client(
                service,
                region_name=region or _DEFAULT_REGION,
                aws_access_key_id=access.key,
                aws_secret_access_key=access.secret,
                config=config,
            )
            try:
                async with asyncio.timeout(LIMIT):
                    made = await stack.enter_async_context(opened)
            except ValueError as error:  # an endpoint that is none
                raise AwsUnavailable(str(error)) from error
            yield made
    except TimeoutError as error:
        raise AwsUnavailable(f"no answer within {LIMIT:g} s") from error
    except (BotoCoreError, ClientError, ResponseParserError, ConnectionFailed, OSError) as error:
        raise AwsUnavailable(" ".join(str(error).split()) or type(error).__name__) from error


def _described(service: str) -> Any:
    """The library's own files, with what it needs of them for this service in memory. Blocks."""
    loader = _loader()
    for kind in _DESCRIPTIONS:
        loader.load_service_model(service, kind)
    return loader


@cache
def _loader() -> Any:
    """The library's reader of its own files, one for the process: it keeps what it has read."""
    import aiobotocore.session  # noqa: F401 - what takes long of the imports is done here, in a thread
    from botocore.loaders import create_loader

    return create_loader()
