"""The publisher: which event an answer of the broker is for, and how long it has been silent."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from pika.frame import Method
from pika.spec import Basic, BasicProperties

from relay.listening import publisher
from relay.listening.event import OutboxEvent
from relay.listening.publisher import Publisher


class Channel(SimpleNamespace):
    """As much of pika's as the publisher touches: it writes nowhere."""

    def __init__(self) -> None:
        connection = SimpleNamespace(
            params=SimpleNamespace(frame_max=4096), _output_marshaled_frames=lambda frames: self.sent.extend(frames)
        )
        super().__init__(channel_number=1, connection=connection, is_open=True, sent=[])

    def add_on_return_callback(self, callback: Any) -> None:
        self.returned = callback


class Publishing:
    def __init__(self) -> None:
        self.channel, self.confirmed, self.declined = Channel(), list[int](), list[tuple[int, str]]()
        self.publisher = Publisher(
            self.channel,  # type: ignore[arg-type]
            "relay",
            lambda event: self.confirmed.append(event.seq),
            lambda event, why: self.declined.append((event.seq, why)),
            b"",
        )

    def publish(self, numbers: Iterable[int]) -> None:
        self.publisher.publish([OutboxEvent(n, f"id-{n}", 0, 1, "t", "t", "insert", f"t {n}", b"{}") for n in numbers])

    def answer(self, method: Any, tag: int, *, multiple: bool = False) -> None:
        self.publisher.on_confirm(Method(1, method(delivery_tag=tag, multiple=multiple)))

    def give_back(self, number: int) -> None:
        self.channel.returned(self.channel, None, BasicProperties(message_id=f"id-{number}"), b"{}")


def test_an_answer_is_for_its_message_or_for_all_up_to_it() -> None:
    one = Publishing()
    one.publish(range(1, 7))
    one.answer(Basic.Ack, 2)
    assert one.confirmed == [2]
    one.answer(Basic.Ack, 4, multiple=True)
    assert one.confirmed == [2, 1, 3, 4]
    one.publish([7])
    one.answer(Basic.Ack, 7)
    assert (one.confirmed, one.declined) == ([2, 1, 3, 4, 7], [])


def test_what_was_returned_or_refused_is_not_confirmed() -> None:
    one = Publishing()
    one.publish(range(1, 5))
    one.give_back(2)
    one.answer(Basic.Ack, 3, multiple=True)
    one.answer(Basic.Nack, 4)
    assert one.confirmed == [1, 3]
    assert one.declined == [(2, "unroutable"), (4, "refused by a queue")]
    one.publish([2])
    one.answer(Basic.Ack, 5)
    assert one.confirmed == [1, 3, 2], "what was returned once may get there the next time"


def test_only_an_answer_that_is_owed_makes_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    one, now = Publishing(), float(math.ceil(time.monotonic()))  # sums of whole seconds are exact
    monkeypatch.setattr(publisher.time, "monotonic", lambda: now)
    one.publish([1, 2])
    now += 50
    assert one.publisher.silence() == 50
    one.answer(Basic.Ack, 1)
    assert one.publisher.silence() == 0
    now += 50
    one.publish([3])
    assert one.publisher.silence() == 50, "another message is no answer"
    one.publisher.be_patient()
    assert one.publisher.silence() == 0
    one.answer(Basic.Ack, 3, multiple=True)
    now += 50
    assert one.publisher.silence() == 0


def test_on_a_channel_that_is_gone_nothing_is_sent() -> None:
    one = Publishing()
    one.channel.is_open = False
    one.publish([1])
    assert one.channel.sent == []
    assert one.publisher.silence() == 0
