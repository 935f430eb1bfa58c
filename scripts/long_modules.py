"""Lists the modules of more than 400 lines; fails on one that pyproject.toml does not excuse with a reason."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

LIMIT = 400


def main() -> int:
    root = Path(__file__).resolve().parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    reasons: dict[str, str] = project["tool"]["dockstack"]["long-modules"]
    long: dict[str, int] = {}
    for folder in ("src", "tests", "bench", "scripts"):
        for path in sorted((root / folder).rglob("*.py")):
            lines = len(path.read_text().splitlines())
            if lines > LIMIT:
                long[str(path.relative_to(root))] = lines
    for name, lines in long.items():
        print(f"{name}: {lines} lines; {reasons.get(name, f'split it by reason to change (about {LIMIT} lines)')}")
    for name in reasons.keys() - long.keys():
        print(f"{name}: no longer over {LIMIT} lines: remove it from [tool.dockstack.long-modules]")
    if not long:
        print(f"no module over {LIMIT} lines")
    return int(long.keys() != reasons.keys())


if __name__ == "__main__":
    sys.exit(main())
