"""Keys of the parking lot as answers to a command: in pieces.

Whoever may publish to the default exchange can ask for them, as often as it likes, and fill the parking lot.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

PIECE_MAX = 256 << 10  # bytes of JSON in one answer


def pieces(keys: Iterable[dict[str, Any] | None]) -> Iterator[tuple[list[dict[str, Any]], bool]]:
    """Those that make one answer, and whether there are no more, again and again.

    Args:
        keys: None = others may do something meanwhile: then there are none, for now.
    """
    found, size = list[dict[str, Any]](), 0
    for one in keys:
        if one is None:
            yield [], False
            continue
        found.append(one)
        size += len(json.dumps(one))
        if size >= PIECE_MAX:
            yield found, False
            found, size = [], 0
    yield found, True
