"""Python imports this at its start, if this directory is in PYTHONPATH: listen.py judges no event beforehand.

So RabbitMQ meets them, and closes the channel or the connection.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from relay.listening import event, frames

_init = frames.Frames.__init__


def _lenient(self: frames.Frames, *arguments: Any) -> None:
    _init(self, *arguments)
    self._frame_max = 1 << 40


frames.Frames.__init__ = _lenient  # type: ignore[method-assign]
event._COPIES.clear()
