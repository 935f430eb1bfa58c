"""Lists the modules of more than 400 lines; fails on one of src that pyproject.toml does not excuse with a reason.

A test module follows the module that it proves, so those are only listed.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

LIMIT = 400


def main() -> int:
    """Returns the exit status."""
    root = Path(__file__).resolve().parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    reasons: dict[str, str] = project["tool"]["dockstack"]["long-modules"]
    lines = {
        str(path.relative_to(root)): len(path.read_text().splitlines())
        for folder in ("src", "tests", "bench", "scripts")
        for path in sorted((root / folder).rglob("*.py"))
    }
    long = {name: count for name, count in lines.items() if count > LIMIT}
    print(f"{len(long)} of {len(lines)} modules have more than {LIMIT} lines")
    problems = 0
    for name, count in long.items():
        excused = name in reasons or not name.startswith("src/")
        problems += not excused
        print(
            f"  {name}: {count}; {reasons.get(name, 'fine for tests' if excused else 'split it by reason to change')}"
        )
    for name in sorted(reasons.keys() - long.keys()):
        problems += 1
        print(f"  {name} is excused in [tool.dockstack.long-modules] and not that long: remove it there")
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
