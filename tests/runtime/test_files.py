"""A file is whole at every moment, also where it cannot be renamed over."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dockstack.runtime.files import Trouble, write_atomically


def test_the_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "haproxy.cfg"
    write_atomically(target, b"one\n")
    before = target.stat().st_ino
    write_atomically(target, b"two\n", 0o600)
    assert target.read_bytes() == b"two\n"
    assert target.stat().st_ino != before
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["haproxy.cfg"]


def test_a_failure_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_atomically(tmp_path / "missing" / "file", b"x")
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory") as raised:
        write_atomically(tmp_path / "directory", b"x")
    assert raised.value.errno == errno.EISDIR
    assert os.listdir(tmp_path) == ["directory"]


def test_what_the_disk_says_is_remembered_until_a_write_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"
    trouble = Trouble(path)
    for _ in range(2):
        with pytest.raises(FileNotFoundError), trouble.watched():
            write_atomically(path, b"x")
        assert trouble.said == f"{path} cannot be written: No such file or directory"
    path.parent.mkdir()
    with trouble.watched():
        write_atomically(path, b"x")
    assert trouble.said == ""


BIND_MOUNTED = """
import ctypes, os, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x00020000 | 0x10000000):
    sys.exit(77)
source, target = sys.argv[1:3]
if libc.mount(source.encode(), target.encode(), None, 4096, None):
    sys.exit(77)
from dockstack.runtime.files import write_atomically
write_atomically(Path(target), b"new")
assert Path(target).read_bytes() == b"new"
"""


def test_a_file_that_is_a_mount_of_its_own_is_written_in_place(tmp_path: Path) -> None:
    source, directory = tmp_path / "source", tmp_path / "directory"
    directory.mkdir()
    target = directory / "haproxy.cfg"
    source.write_bytes(b"old and longer")
    target.write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", BIND_MOUNTED, str(source), str(target)], check=False, capture_output=True, timeout=120
    )
    if done.returncode == 77:  # no namespaces here: the same errno, from a target that refuses the rename
        pytest.fail("this machine allows no mount namespace; run as root or allow user namespaces")
    assert done.returncode == 0, done.stderr.decode()
    assert source.read_bytes() == b"new"
    assert os.listdir(directory) == ["haproxy.cfg"]
