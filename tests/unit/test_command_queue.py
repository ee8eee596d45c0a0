"""Commands wait for their turn, and the turns for each other, however many come."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from relay.amqp.command_queue import CommandQueue
from relay.amqp.decode import Properties
from relay.amqp.pace import SHARE, TURN
from relay.log import Log

EACH = TURN / 2  # seconds of the processor's for a command


def test_turns_are_no_more_than_their_share_of_the_time() -> None:
    taken: list[object] = []
    later: list[tuple[float, Callable[[], None]]] = []

    def carry_out(command: object, _reply: object) -> None:
        taken.append(command)
        end = time.thread_time() + EACH
        while time.thread_time() < end:
            pass

    session: Any = SimpleNamespace(call_later=lambda delay, do: later.append((delay, do)))
    answers: Any = SimpleNamespace(send=lambda *_: None, prepare=lambda: None, flush=lambda: None, is_busy=False)
    queue = CommandQueue(session, "q", b"", answers, carry_out, Log("test"))
    queue._acks = SimpleNamespace(give=lambda _tag: None)  # type: ignore[assignment]
    properties = Properties()
    properties.reply_to = "amq.rabbitmq.reply-to.x"
    for tag in range(10):
        method: Any = SimpleNamespace(delivery_tag=tag)
        queue._on_message(None, method, properties, b'{"command":"x"}')  # type: ignore[arg-type]
    assert not taken, "none within the callback that has brought it"
    assert len(later) == 1, "one turn for all"
    before = 0
    while later:
        ((_delay, turn),) = later
        later.clear()
        turn()
        assert len(taken) - before <= 3
        if later:
            assert later[0][0] > 0.8 * (len(taken) - before) * EACH / SHARE
        before = len(taken)
    assert len(taken) == 10
