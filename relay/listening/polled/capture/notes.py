"""One watched table of a polled source, as `listen.py watched`, `status` and `check` show it."""

import shlex
from typing import NamedTuple

from relay.listening.polled.capture.options import Options


class Watched(NamedTuple):
    """A table, and what is not right about its triggers."""

    tbl: str
    topic: str
    options: Options
    note: str | None = None
    """What has changed since; None = nothing."""
    remedy: str | None = None
    """The command that mends it."""


def again(name: str, options: Options) -> str:
    """The command that watches a table as it was."""
    return shlex.join(["listen.py", "watch", name, *options.words()])
