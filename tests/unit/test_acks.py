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
            acks.last = data.draw(st.sampled_from([0, *given_, len(tags)]))
            async with asyncio.timeout(10):
                while set(broker.acknowledged) != given_:
                    await asyncio.sleep(0)
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


def test_while_others_are_worked_on_they_wait_for_each_other_but_not_long() -> None:
    async def run() -> tuple[list[list[int]], int]:
        broker, seen = Broker(100), []
        acks = Acks(broker)  # type: ignore[arg-type]
        acks.last = 100
        for tags in (range(1, 21), range(21, 26), range(26, 31)):  # a quarter of 100, and of 75: 19
            for tag in tags:
                acks.give(tag)
            await asyncio.sleep(0)
            seen.append(sorted(broker.acknowledged))
        async with asyncio.timeout(10):
            while len(broker.acknowledged) < 30:
                await asyncio.sleep(0)
        return seen, broker.frames

    first = list(range(1, 26))
    assert asyncio.run(run()) == ([[], first, first], 2)


def test_the_last_that_is_open_waits_for_nothing() -> None:
    async def run() -> list[int]:
        broker = Broker(3)
        acks = Acks(broker)  # type: ignore[arg-type]
        for tag in (2, 1, 3):
            acks.last = 3
            acks.give(tag)
        await asyncio.sleep(0)
        return broker.acknowledged

    assert asyncio.run(run()) == [1, 2, 3]


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
