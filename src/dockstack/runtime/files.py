"""Files that are never half written, and directories where they live."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_BUFFER = 65536  # bytes that are written at a time


class Trouble:
    """Why a file is not as it is wanted: a sentence, or "" while it can be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.said = ""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A write is tried in the block: its OSError is remembered and goes on, its success clears the trouble."""
        try:
            yield
        except OSError as error:
            self.said = f"{self._path} cannot be written: {error.strerror or error}"
            raise
        self.said = ""


def write_atomically(path: Path, data: bytes | Sequence[bytes], mode: int = 0o644) -> None:
    """Makes the file hold `data`, or chunks of it, in one step: a temporary file beside it, fsync, rename.

    After a power failure it may be the one that was there before, but never a part of one.
    A file that is a bind mount of its own cannot be renamed over (EBUSY, or EXDEV): it is then written in place.
    Raises OSError.
    """
    chunks = (data,) if isinstance(data, bytes) else data
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb", _BUFFER) as file:
            os.fchmod(file.fileno(), mode)
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        try:
            temporary.replace(path)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            with path.open("r+b", _BUFFER) as target:
                target.writelines(chunks)
                target.truncate()
                target.flush()
                os.fsync(target.fileno())
    finally:
        temporary.unlink(missing_ok=True)
