"""No secret is shown: what a test's daemons log, and its commands, pages and metrics say, is looked through for those
of the settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from relay.targets.settings import SECRET_HEADER

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = set(re.findall(r"^\| `(\w+)` \(secret\)", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE))
NO_SECRET = {"ALERT_COMMAND"}  # of its own; it may be in a file, as it may hold one
LEAST = 8  # characters: shorter ones of the tests are words that stand elsewhere, too

TEXTS: list[str] = []
"""What commands, pages and metrics have said in this test."""


def secrets(settings: Mapping[str, object]) -> set[str]:
    """Those of an env file."""
    found = (one for key in SETTINGS - NO_SECRET for one in _parts(key, str(settings.get(key, "")).strip("'")))
    return {one for one in found if len(one) >= LEAST}


def _parts(key: str, value: str) -> Iterator[str]:
    if key == "HTTP_HEADERS":
        headers = json.loads(value) if value.startswith("{") and value.endswith("}") else {}
        yield from (str(text) for name, text in headers.items() if SECRET_HEADER.search(name) and "{" not in str(text))
    elif key == "ODOO_WEBHOOK":
        yield value.rpartition("/web/hook/")[2]
    elif key in ("DATABASE_URL", "RABBITMQ_URL"):
        yield from re.findall(r"\bpassword=(\S+)", value)
        if password := re.match(r"\w+://[^/@]*?:([^/]*)@", value):
            yield from (password[1], unquote(password[1]))
    else:
        yield value


def leaked(secret: Iterable[str], texts: Iterable[str]) -> list[str]:
    """The lines that hold one of them."""
    known = set(secret)
    return [line for text in texts for line in text.splitlines() if any(one in line for one in known)]
