"""Whatever has become of receivers before us: what they gave back has its order again."""

from __future__ import annotations

import random

import pytest

from relay.receiving.given_back import GivenBack, runs

Message = list[int]  # its number, and how often it has come back


class Queue:
    """A quorum queue as 3.10 was measured: what is given back goes behind what was given back before."""

    def __init__(self, count: int) -> None:
        self.returned: list[Message] = []
        self.fresh: list[Message] = [[number, 0] for number in range(count)]

    def take(self, count: int) -> list[Message]:
        taken, self.returned = self.returned[:count], self.returned[count:]
        more = count - len(taken)
        taken, self.fresh = taken + self.fresh[:more], self.fresh[more:]
        return taken

    def give_back(self, messages: list[Message]) -> None:
        self.returned += [[number, count + 1] for number, count in messages]

    def put_in_order(self, window: int) -> int:
        place = 0
        while window < len(self.returned):
            window += 1 if not place else window
            place += 1
        read = self.take(window)
        back = [message for message in read if message[1]]
        self.give_back(read)
        by_place = {place: self.take(length) for length, place in runs([count for _, count in back], window)}
        for place in sorted(by_place):
            self.give_back(by_place[place])
        return window


@pytest.mark.parametrize("seed", range(100))
def test_what_was_given_back_has_its_order_again(seed: int) -> None:
    rng, window = random.Random(seed), 40
    queue = Queue(600)
    for _ in range(12):
        queue.put_in_order(window)
        channel, given_back = queue.take(window), window
        for _ in range(rng.randrange(4)):  # renewals, after which all that was given back must be read
            done = rng.randrange(len(channel) + 1)
            channel = channel[done:] + queue.take(rng.randrange(done + 1))
            queue.give_back(channel)
            narrow = rng.randrange(1, window)
            channel = queue.take(narrow)
            given_back -= narrow
            for _ in range(min(rng.randrange(20), len(channel))):  # one is acknowledged, and another one comes
                del channel[0]
                channel += queue.take(1)
                given_back -= 1
            if given_back > 0:
                break
            given_back = window
        queue.give_back(channel)  # it dies
        queue.put_in_order(window)
        numbers = [number for number, _ in queue.returned + queue.fresh]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("seed", range(200))
def test_what_one_process_gives_back_has_its_order_whatever_its_windows(seed: int) -> None:
    """Narrowed, widened and closed at any time; and the next one may be smaller, and may find what a dead one left."""
    rng, queue = random.Random(seed), Queue(600)
    for _ in range(6):
        events = rng.choice((1, 5, 40))
        known = GivenBack(events)
        for _ in range(rng.randrange(12)):
            if known.is_mixed:
                known.in_order(queue.put_in_order(known.most))
            numbers = [number for number, _ in queue.returned + queue.fresh]
            assert numbers == sorted(numbers)
            prefetch, read = rng.randint(1, events), 0
            channel: list[Message] = []
            for done in [0, *(rng.randrange(prefetch + 1) for _ in range(rng.randrange(6)))]:
                del channel[:done]  # acknowledged
                more = queue.take(prefetch - len(channel))
                channel, read = channel + more, read + len(more)
            queue.give_back(channel)
            known.closed(prefetch, read)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ([], []),
        ([None, None], []),
        ([3, 3, 1], []),
        ([1, 1, 1, 2, 2], [(3, 1), (2, 0)]),
        ([2, 1, 3, 2], [(1, 1), (1, 3), (1, 0), (1, 2), (1, 4)]),
        ([None, 1, None, 2], [(3, 1), (1, 0), (1, 2)]),
        ([1, 2, None], [(1, 1), (2, 0), (2, 2)]),
    ],
)
def test_who_has_come_back_less_often_goes_behind_who_has_more_often(
    counts: list[int | None], wanted: list[tuple[int, int]]
) -> None:
    assert runs(counts, 5) == wanted
