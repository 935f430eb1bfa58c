"""How Marathon's address and the path of an application's tasks are written. Pure."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

PATH = "/v2/apps/%{app}/tasks"
_TOKEN = re.compile(r"%(?:(?P<percent>%)|(?P<app>\{app\})|(?P<bad>))")


def url(text: str) -> str:
    """The text, if it is the URL of a server. Raises ValueError, which does not repeat what may be a password."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"\s", text):
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT")
    return text


def path(text: str) -> str:
    """The text, if only `%{app}` and `%%` stand behind percent signs in it. Raises ValueError."""
    for match in _TOKEN.finditer(text):
        if match["bad"] is not None:
            found = text[match.start() : match.start() + 5]
            raise ValueError(f"`%` begins no variable in `{found}`; there is %{{app}}, and %% is a percent sign")
    return text


def tasks_url(server: str, template: str, application: str) -> str:
    """Where Marathon lists the tasks of an application; a path from the root replaces that of the server's URL."""
    name = application.strip("/")
    return urljoin(server, _TOKEN.sub(lambda match: "%" if match["percent"] else name, template))
