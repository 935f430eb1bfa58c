"""Each row of docs/compatibility.md says whether it is the same, and names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "compatibility.md"
ROWS = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (?!what \|)[^-]", line)]
VERDICTS = ("yes", "ours", "better", "stricter", "differs", "as was meant")


def names(row: str) -> list[str]:
    return re.findall(r"`([\w/]+\.py(?:::\w+)?)`", row.rsplit(" | ", maxsplit=1)[-1])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0][2:60])
def test_a_row_has_its_verdict_and_its_tests(row: str) -> None:
    what, verdict, proof = row.strip("| ").split(" | ")
    assert what
    assert verdict.startswith(VERDICTS)
    assert names(row), proof
    if "<!-- check -->" in proof:
        there = [name for name in names(row) if (TESTS / name.partition("::")[0]).exists()]
        assert there == [], f"{there} is there now: name the tests in it, and take the mark away"
        return
    for name in names(row):
        file, _, function = name.partition("::")
        assert (TESTS / file).exists(), name
        assert function, f"{name}: which test?"
        assert re.search(rf"^(async )?def {function}\(", (TESTS / file).read_text(), re.MULTILINE), name


def test_there_are_rows_for_all_parts() -> None:
    assert len(ROWS) > 120
    headings = re.findall(r"^## (.*)", PAGE.read_text(), re.MULTILINE)
    assert {"DockStack's command line", "nerve", "synapse: sides of a line", "synapse: rendering"} <= {*headings}
