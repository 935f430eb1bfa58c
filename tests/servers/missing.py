"""What happens to a test whose server is not on this machine: a failure where CI=true, else a skip by name."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(server: str, packages: str) -> NoReturn:
    """Ends the test that asked for `server`; `packages` are Debian's names of what to install."""
    reason = f"{server} is not installed (apt-get install {packages}; `make test` does it)"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
