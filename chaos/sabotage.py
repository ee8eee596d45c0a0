"""python -m chaos.sabotage NAME SCRIPT ARGUMENTS: runs a daemon with one of its promises broken on purpose.

Only for testing the referee: each way of breaking the relay must be noticed. Nothing in relay/ knows of it.
"""

from __future__ import annotations

import functools
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def ack_early() -> None:
    """Acknowledge an event when it comes in, not when the endpoint has it."""
    from relay.receiving.strands import Strands

    add = Strands.add

    @functools.wraps(add)
    def added(self: Any, event: Any, receipt: Any, *arguments: Any, **named: Any) -> Any:
        receipt()
        return add(self, event, lambda: None, *arguments, **named)

    Strands.add = added  # type: ignore[method-assign]


def delete_before_confirm() -> None:
    """Delete an event from the outbox when it is sent, not when the broker has confirmed it."""
    from relay.listening import outbox_relay
    from relay.listening.outbox_relay import OutboxRelay

    outbox_relay.DELETE_ROWS = 1  # and do not wait for the other confirms either

    start = OutboxRelay.start

    def started(self: Any, publisher: Any, *others: Any) -> None:
        publish = publisher.publish

        def published(events: Any) -> Any:
            taken = list(events)
            for event in taken:
                self._deletion.add(event)
            return publish(taken)

        publisher.publish = published
        start(self, publisher, *others)

    OutboxRelay.start = started  # type: ignore[method-assign, assignment]


def read_by_seq_only() -> None:
    """Read what lies above the highest number seen, and forget the gaps below it."""
    from relay.listening.gaps import Seen

    note = Seen.note

    def noted(self: Any, *arguments: Any, **named: Any) -> None:
        note(self, *arguments, **named)
        self.gaps = []

    Seen.note = noted  # type: ignore[method-assign]


def nack_in_the_middle() -> None:
    """Give a failed event back to RabbitMQ with basic.nack, instead of keeping it first of its strand."""
    from relay.receiving.strands import Strands

    again = Strands.again

    def given_back(self: Any, item: Any, not_before: float, now: float, **more: Any) -> None:
        if item.receipt is None:  # a ghost
            again(self, item, not_before, now, **more)
            return
        acks, tag, _id = item.receipt.args
        if acks._channel.is_open:
            acks._channel.basic_nack(tag, requeue=True)
        self._remove(item)
        self._after_removal(item.strand, now)

    Strands.again = given_back  # type: ignore[method-assign]


def forget_parked() -> None:
    """Let the later events of a key pass its parked one."""
    from relay.receiving.parking.index import ParkedIndex

    def blocks(*_arguments: object) -> bool:
        return False

    ParkedIndex.blocks = blocks  # type: ignore[method-assign, assignment]


def keep_memory() -> None:
    """Take for known, after another receiver's turn, what was delivered before it."""
    from relay.receiving.strands import Strands

    def forget(*_arguments: object) -> None:
        return

    Strands.forget = forget  # type: ignore[method-assign, assignment]


_WAYS: dict[str, Callable[[], None]] = {
    way.__name__.replace("_", "-"): way
    for way in (ack_early, delete_before_confirm, read_by_seq_only, nack_in_the_middle, forget_parked, keep_memory)
}
NAMES = tuple(_WAYS)


def main() -> None:
    """Break the relay, then run the script as if it had been started by itself."""
    name, script, *arguments = sys.argv[1:]
    _WAYS[name]()
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
