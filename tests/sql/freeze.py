"""Keep this version's install.sql as one file, for test_upgrade.py: python tests/sql/freeze.py

Run it when a version is released, and never again for that version.
"""

import re
from pathlib import Path

SQL = Path(__file__).resolve().parents[2] / "sql"
VERSIONS = Path(__file__).resolve().parent / "versions"


def flatten(script: Path) -> str:
    """The script with the files it includes by \\ir."""
    lines = []
    for line in script.read_text().splitlines():
        included = re.match(r"\s*\\ir (\S+)", line)
        lines.append(flatten(script.parent / included[1]) if included else line)
    return "\n".join(lines)


def version() -> int:
    found = re.search(r"^\\set relay_version (\d+)$", (SQL / "install.sql").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


if __name__ == "__main__":
    target = VERSIONS / f"{version()}.sql"
    target.write_text(
        f"-- Frozen by tests/sql/freeze.py: sql/install.sql of version {version()}.\n{flatten(SQL / 'install.sql')}\n"
    )
    print(f"wrote {target}")  # noqa: T201
