"""Keys of the parking lot as answers to a command: in pieces.

Whoever may publish to the default exchange can ask for them, as often as it likes, and fill the parking lot.
"""

import json
from collections.abc import Iterator
from typing import Any

PIECE_MAX = 256 << 10  # bytes of JSON in one answer


def piece(keys: Iterator[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """Take as many as make one answer. Return them, and whether there are no more."""
    found, size = [], 0
    for one in keys:
        found.append(one)
        size += len(json.dumps(one))
        if size >= PIECE_MAX:
            return found, False
    return found, True
