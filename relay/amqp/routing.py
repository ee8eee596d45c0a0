"""Which messages an exchange hands to a queue, by the binding's key and the message's routing key. Pure."""

from collections.abc import Iterable


def takes(key: str, topic: str) -> bool:
    """Does a topic exchange hand a message with this routing key to a queue bound by `key`?

    Words are separated by dots; an empty text has none. `*` stands for one word, `#` for any number of them.
    """
    parts, places = _words(key), {0}
    for word in _words(topic):
        reached = _reach(parts, places)
        places = {at for at in reached if at < len(parts) and parts[at] == "#"}
        places |= {at + 1 for at in reached if at < len(parts) and parts[at] in ("*", word) and parts[at] != "#"}
    return len(parts) in _reach(parts, places)


def _words(text: str) -> list[str]:
    return text.split(".") if text else []


def _reach(parts: list[str], places: Iterable[int]) -> set[int]:
    """`#` may also stand for nothing."""
    found = set(places)
    for at, part in enumerate(parts):
        if part == "#" and at in found:
            found.add(at + 1)
    return found


def is_taken(kind: str, key: str, topic: str) -> bool:
    """Does an exchange of this type hand a message to a queue that is bound by `key`?"""
    return kind == "fanout" or (takes(key, topic) if kind == "topic" else key == topic)
