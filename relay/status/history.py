"""What happened in the last hours: one sample a minute, and the changes of state. Lives as long as the process."""

import collections
import dataclasses
import re
from typing import NamedTuple

from relay.findings import Level

SAMPLES = 6 * 60  # minutes that are kept
CHANGES = 50  # changes of state that are kept


class Flow(NamedTuple):
    """How it stands.

    Args:
        come, gone: events since the process began.
        waiting: events now.
        age: seconds that the oldest of them has waited.
    """

    come: float
    gone: float
    waiting: float
    age: float


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One minute.

    Args:
        at: its end, in seconds of the epoch.
        come, gone: events that came in and went out in it; NaN = not known.
        waiting: how many waited at its end.
        age: seconds that the oldest of them had waited.
    """

    at: float
    come: float
    gone: float
    waiting: float
    age: float


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A change of state."""

    at: float  # seconds of the epoch
    level: Level
    text: str


class History:
    """Bounded: some hours, some changes."""

    def __init__(self) -> None:
        self.samples: collections.deque[Sample] = collections.deque(maxlen=SAMPLES)
        self.changes: collections.deque[Change] = collections.deque(maxlen=CHANGES)

    def changed(self, at: float, level: Level, text: str) -> None:
        """Something is different from now on; what differs from the last in its numbers only is the same."""
        if not self.changes or _plain(self.changes[-1].text) != _plain(text):
            self.changes.append(Change(at, level, text))


def _plain(text: str) -> str:
    return re.sub(r"\d+", "0", text)
