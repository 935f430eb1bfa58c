"""A file that cannot be read is told in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockstack.documents import read
from dockstack.errors import ConfigurationError


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read(path, {})
    return str(raised.value)


def test_a_file_is_read_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "nerve.yaml"
    path.write_bytes("\ufeffinstance_id: é\n".encode())
    document = read(path, {})
    assert document.data == {"instance_id": "é"}
    assert document.where(("instance_id",)) == f"{path}:1: instance_id"


def test_what_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path / "x.yaml") == f"{tmp_path}/x.yaml: there is no such file"
    assert refusal(tmp_path) == f"{tmp_path}: is a directory; a file is meant here"
    (tmp_path / "file").write_bytes(b"a: 1\nb: \xff\n")
    assert refusal(tmp_path / "file") == f"{tmp_path}/file:2: is not UTF-8 text"
    assert refusal(tmp_path / "file" / "below") == f"{tmp_path}/file/below: cannot be read: Not a directory"
