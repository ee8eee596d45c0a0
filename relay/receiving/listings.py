"""Keys of the parking lot as answers to a command: in pieces, each once those before it have left.

Whoever may publish to the default exchange can ask for them, as often as it likes, and fill the parking lot.
"""

import collections
import json
from collections.abc import Callable, Iterator
from typing import Any

from relay.amqp.command_queue import Reply

PIECE_MAX = 256 << 10  # bytes of JSON in one answer
LISTINGS_MAX = 4  # that are on their way


class Listings:
    """Those that somebody awaits.

    Args:
        is_busy: is there so much on its way that nothing may be added?
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._waiting: collections.deque[tuple[Iterator[dict[str, Any]], Reply]] = collections.deque()

    def begin(self, keys: Iterator[dict[str, Any]], reply: Reply) -> None:
        """Send these, as `parked`; if too many others are on their way, say so."""
        if len(self._waiting) >= LISTINGS_MAX:
            reply({"done": True, "error": "others are being told the same", "again": True})
            return
        self._waiting.append((keys, reply))
        self.go_on()

    def go_on(self) -> None:
        """Send what may be sent now. To be called now and then."""
        while self._waiting and not self._is_busy():
            keys, reply = self._waiting[0]
            found, is_last = piece(keys)
            if is_last:
                self._waiting.popleft()
            reply({"parked": found} | ({"done": True} if is_last else {}))

    def end(self) -> list[Reply]:
        """Send nothing more. Return whom to tell."""
        waiting = [reply for _keys, reply in self._waiting]
        self._waiting.clear()
        return waiting


def piece(keys: Iterator[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """Take as many as make one answer. Return them, and whether there are no more."""
    found, size = [], 0
    for one in keys:
        found.append(one)
        size += len(json.dumps(one))
        if size >= PIECE_MAX:
            return found, False
    return found, True
