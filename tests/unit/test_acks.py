"""Acknowledgements given together: never one too many, never one twice, never one too few."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from relay.amqp.acks import Acks


class Broker:
    """A channel as RabbitMQ keeps it: what is delivered and not acknowledged yet."""

    def __init__(self, delivered: int) -> None:
        self.open = set(range(1, delivered + 1))
        self.acknowledged: list[int] = []
        self.frames = 0
        self.is_open = True

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        assert delivery_tag in self.open, "PRECONDITION_FAILED - unknown delivery tag"
        these = [tag for tag in sorted(self.open) if tag == delivery_tag or (multiple and tag < delivery_tag)]
        self.open -= set(these)
        self.acknowledged += these
        self.frames += 1


@given(st.integers(1, 40).flatmap(lambda count: st.permutations(range(1, count + 1))), st.data())
def test_exactly_what_is_given_is_acknowledged_in_whatever_order(tags: list[int], data: st.DataObject) -> None:
    async def run() -> None:
        broker = Broker(len(tags))
        acks = Acks(broker)  # type: ignore[arg-type]
        given_: set[int] = set()
        while left := [tag for tag in tags if tag not in given_]:
            for tag in left[: data.draw(st.integers(1, len(left)))]:
                acks.give(tag)
                given_.add(tag)
            await asyncio.sleep(0)
            assert set(broker.acknowledged) == given_
        assert len(broker.acknowledged) == len(tags), "none twice"
        assert not acks._above

    asyncio.run(run())


def test_what_is_given_in_one_turn_of_the_loop_is_one_frame() -> None:
    async def run() -> int:
        broker = Broker(100)
        acks = Acks(broker)  # type: ignore[arg-type]
        for tag in range(1, 101):
            acks.give(tag)
        await asyncio.sleep(0)
        return broker.frames

    assert asyncio.run(run()) == 1


def test_before_the_channel_is_closed_all_is_given_and_afterwards_nothing() -> None:
    async def run() -> tuple[list[int], list[int]]:
        broker = Broker(3)
        acks = Acks(broker)  # type: ignore[arg-type]
        acks.give(2)
        acks.flush()
        before = list(broker.acknowledged)
        broker.is_open = False
        acks.give(1)
        await asyncio.sleep(0)
        return before, broker.acknowledged

    assert asyncio.run(run()) == ([2], [2])
