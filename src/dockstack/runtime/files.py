"""Files that are never half written, and directories where they live."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Makes the file hold `data` in one step: a temporary file beside it, fsync, rename.

    After a power failure it may be the one that was there before, but never a part of one.
    A file that is a bind mount of its own cannot be renamed over (EBUSY, or EXDEV): it is then written in place.
    Raises OSError.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            temporary.replace(path)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            with path.open("r+b") as target:
                target.write(data)
                target.truncate()
                target.flush()
                os.fsync(target.fileno())
    finally:
        temporary.unlink(missing_ok=True)
