"""Of the parked queue: what RabbitMQ was told that it may forget, and has not yet shown that it has. Pure.

What it has not forgotten comes again, and is known by its strand and its handle. Handles of ours are used once. But
what others put into the queue can be there twice: the same bytes, or a copy of one of ours. Then the one that was
acknowledged is told from the one that was not by their order: within a strand the first ones go first.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence

Name = tuple[str, str]  # strand and handle


class Acknowledged:
    """Names of messages; those that several messages have are told apart by how many are left."""

    def __init__(self) -> None:
        self._names = set[Name]()
        self._left = collections.Counter[Name]()  # of names that several messages had: messages not acknowledged

    def __len__(self) -> int:
        return len(self._names)

    @property
    def is_ambiguous(self) -> bool:
        """Are there names that several messages had? Then only who has seen all of the queue can tell."""
        return bool(self._left)

    def begin_anew(self, there: Mapping[Name, int]) -> None:
        """The queue has been read. `there`: how many messages have each name."""
        self._names.clear()
        self._left = collections.Counter({name: count for name, count in there.items() if count > 1})

    def add(self, name: Name) -> None:
        """RabbitMQ was told that it may forget the first message of this name."""
        self._names.add(name)
        if name in self._left:
            self._left[name] -= 1
            if not self._left[name]:
                del self._left[name]

    def clear(self) -> None:
        """RabbitMQ has shown that it knows it of all."""
        self.begin_anew(self._left)

    def __contains__(self, name: Name) -> bool:
        """Was a message of this name acknowledged?"""
        return name in self._names

    def is_forgotten(self, name: Name) -> bool:
        """Is a message of this name, seen in a pass, certainly one that was acknowledged before that?"""
        return name in self._names and not self._left  # whatever another of its name is, it may not be lost

    def forgotten(self, found: Mapping[Name, Sequence[int]]) -> Iterable[int]:
        """Which messages are there although they were acknowledged?

        Args:
            found: of each name that is `in` this, the messages that are there, the first ones first.
        """
        for name, tags in found.items():
            yield from tags[: max(0, len(tags) - self._left[name])]
