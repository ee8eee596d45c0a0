"""What RabbitMQ has forgotten that it may forget is found again, whatever the messages are called."""

from __future__ import annotations

import collections
import random

import pytest

from relay.receiving.parking.acknowledged import Acknowledged, Name

Message = tuple[Name, int]  # and which one it is: nobody but this test knows


class Queue:
    """Messages of which some have the same name. Of each name the first ones are acknowledged first."""

    def __init__(self, rng: random.Random, names: int, count: int) -> None:
        self.messages: list[Message] = [(("strand", f"{rng.randrange(names)}"), number) for number in range(count)]
        self.gone: set[Message] = set()
        self.known = Acknowledged()
        self.known.begin_anew(collections.Counter(name for name, _ in self.messages))

    def acknowledge(self, name: Name) -> None:
        left = [one for one in self.messages if one[0] == name and one not in self.gone]
        if left:
            self.gone.add(left[0])
            self.known.add(name)

    def forget(self, rng: random.Random, share: float) -> None:
        """The channel closes: some acknowledgements are lost."""
        self.messages = [one for one in self.messages if one not in self.gone or rng.random() < share]
        self.gone &= set(self.messages)

    def found(self) -> set[Message]:
        by_name: dict[Name, list[int]] = {}
        for name, number in self.messages:
            if name in self.known:
                by_name.setdefault(name, []).append(number)
        numbers = set(self.known.forgotten(by_name))
        return {one for one in self.messages if one[1] in numbers}


@pytest.mark.parametrize("seed", range(30))
def test_what_was_forgotten_is_known_exactly(seed: int) -> None:
    rng = random.Random(seed)
    queue = Queue(rng, names=rng.choice([3, 20, 1000]), count=60)
    for _ in range(6):
        for _ in range(8):
            queue.acknowledge(rng.choice(queue.messages)[0])
        queue.forget(rng, rng.choice([0, 0.3, 1]))
        assert queue.found() == queue.gone
        if not queue.gone:
            queue.known.clear()
            assert not queue.known


def test_in_a_pass_only_what_certainly_was_acknowledged_before_is_taken_for_it() -> None:
    known, twin, single = Acknowledged(), ("a", "x"), ("a", "y")
    known.begin_anew({twin: 3, single: 1})
    known.add(twin)
    known.add(single)
    assert not known.is_forgotten(twin), "it may be the second one"
    assert not known.is_forgotten(single), "where names are not unique, somebody who has read all decides"
    known.clear()
    known.add(twin)
    assert not known.is_forgotten(twin), "it may be the third one"
    known.clear()
    known.add(twin)
    assert known.is_forgotten(twin), "there is no other one"
    assert not known.is_forgotten(single)


def test_what_is_not_there_any_more_was_not_forgotten() -> None:
    known, name = Acknowledged(), ("a", "x")
    known.begin_anew({name: 3})
    known.add(name)
    assert list(known.forgotten({name: [7]})) == [], "somebody else has taken one"
