"""Which files we have written, so that no other file is ever removed: a list in the state directory.

A file is listed before it is written, so that one whose writing was cut short by a kill is still known as ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from dockstack.errors import DockStackError
from dockstack.runtime.files import write_atomically

FILE = "synapse-files.json"
VERSION = 1


class ManifestUnreadable(DockStackError):
    """There is a list, and it is none of ours."""


def load(path: Path) -> frozenset[Path]:
    """The files that we have written; none where there is no list. Raises ManifestUnreadable with the reason."""
    try:
        whole = json.loads(path.read_bytes())
        if whole["version"] != VERSION:
            raise ValueError(f"it is not a list in version {VERSION}")
        return frozenset(Path(one) for one in whole["files"])
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise ManifestUnreadable(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ManifestUnreadable(f"{path}: {error}") from None


def save(path: Path, files: Iterable[Path]) -> None:
    """Writes the list. Raises OSError."""
    body = {"version": VERSION, "files": sorted(map(str, files))}
    write_atomically(path, json.dumps(body, indent=1).encode(), 0o600)
