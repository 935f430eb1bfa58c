"""Text that users write, as plain data that knows its lines: YAML (JSON is YAML), `${VAR}`, two forms of ERB."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dockstack.documents.document import Document, Steps, fault, spelled
from dockstack.documents.environment import EnvironmentText
from dockstack.documents.nodes import parse

__all__ = ["Document", "EnvironmentText", "Steps", "parse", "read", "spelled"]


def read(path: Path, env: Mapping[str, str]) -> Document:
    """The document in a file; raises ConfigurationError when it cannot be read or is not one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise fault(str(path), "there is no such file") from None
    except IsADirectoryError:
        raise fault(str(path), "is a directory; a file is meant here") from None
    except OSError as error:
        raise fault(str(path), f"cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise fault(f"{path}:{line}", "is not UTF-8 text") from None
    return parse(text, str(path), env)
