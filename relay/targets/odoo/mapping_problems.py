"""What is wrong in a mapping file: all of it, each with its line and what to write instead."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

_HEADER = re.compile(r"\s*\[([^\]]+)\]")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")


class Problems:
    """Collects them.

    Args:
        path: of the file.
        text: its content, as far as it is TOML: tomllib tells no lines.
    """

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.found: list[tuple[str, str]] = []
        self._lines = text.splitlines()

    def add(self, table: str, key: str, what: str, remedy: str) -> None:
        """`table`: its name, empty for what stands above them; `key`: what is wrong in it, empty for all of it."""
        where = f'table."{table}"' if table else ""
        name = " ".join(part for part in (where, key) if part)
        self.found.append((f"{self.path} line {self.line(table, key)}: {name}: {what}", remedy))

    def check_keys(self, table: str, content: Mapping[str, Any], known: tuple[str, ...], within: str = "") -> None:
        """Settings that there are not. `within`: the key that has them."""
        for key in [key for key in content if key not in known]:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]}?" if near else f"remove it; there are: {', '.join(known)}"
            self.add(table, within or key, f"{key} is no setting" if within else "is no setting", remedy)

    def line(self, table: str, key: str) -> int:
        """Where a key stands, as far as it can be found."""
        inside, found = not table, 1
        for number, line in enumerate(self._lines, 1):
            if header := _HEADER.match(line):
                names = ["".join(part) for part in _PART.findall(header[1])]
                inside = names[1:2] == [table] if table else names == ["context"]
                if inside and found == 1:
                    found = number
                if inside and names[2:] and names[-1] == key:
                    return number
            elif inside and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                return number
        return found
