from __future__ import annotations

from pathlib import Path

import pytest

from dockstack.synapse.files.manifest import ManifestUnreadable, load, save


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "list"
    assert load(path) == frozenset()
    save(path, [Path("/b.json"), Path("/a.json")])
    assert load(path) == {Path("/a.json"), Path("/b.json")}


@pytest.mark.parametrize("text", ["", "[]", '{"version":2,"files":[]}', '{"version":1}', '{"version":1,"files":[1]}'])
def test_what_is_no_list_of_ours_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(ManifestUnreadable, match=str(path)):
        load(path)
