"""The arguments of a queue that somebody else made, learnt over AMQP.

A declaration of a queue that exists is refused with the first argument that differs, and what it is. So it is asked
for again and again, each time with what the refusal has told.
"""

import re
from collections.abc import Mapping

Definition = Mapping[str, object]
"""A queue's arguments, or a policy's definition, without x- before the names."""

# Text, where RabbitMQ wants a number: with one of these no queue is ever made, of whatever type; of one that exists
# only those are compared that its type knows.
_REFUSED = {"x-delivery-limit": "?", "x-max-priority": "?"}
_ARGUMENTS_MAX = 50


class Learner:
    """The arguments of a queue that exists; `durable` and `auto-delete` as well, where they are not as we make them.

    Ask for the queue with `durable`, `auto_delete` and `arguments`, and tell `take` the refusal, until it is `done`.
    """

    def __init__(self) -> None:
        self.durable, self.auto_delete = True, False
        self.arguments: dict[str, object] = dict(_REFUSED)
        self.done = False
        self.found: Definition | None = None  # None: it is not there, or we may not ask
        self._left = _ARGUMENTS_MAX

    def take(self, detail: str) -> None:
        """What RabbitMQ has refused it with; empty = it has not."""
        self._left -= 1
        differs = re.search(r"inequivalent arg '([^']+)' for queue", detail)
        self.done = not detail or differs is None or not self._left
        if not detail:
            self.found = self._all()
        elif differs:
            self._differ(differs[1], detail.rpartition(" but current is ")[2])

    def _differ(self, name: str, current: str) -> None:
        if name == "durable":
            self.durable = current == "'true'"
        elif name == "auto_delete":
            self.auto_delete = current == "'true'"
        elif name in self.arguments:
            del self.arguments[name]  # then the next refusal tells its type as well
        else:
            self.arguments[name] = _value(current)

    def _all(self) -> Definition:
        arguments = {name: value for name, value in self.arguments.items() if value != "?"}
        arguments |= {} if self.durable else {"durable": False}
        return plain(arguments | ({"auto-delete": True} if self.auto_delete else {}))


def _value(detail: str) -> object:
    """E.g. `the value '5' of type 'signedint'`; of a type that RabbitMQ 4 has added itself `'quorum'`."""
    typed = re.fullmatch(r"the value '(.*)' of type '(\w+)'", detail, re.DOTALL)
    if typed is None:
        return detail.removeprefix("'").removesuffix("'")
    text, kind = typed.groups()
    if kind == "bool":
        return bool(text == "true")
    return int(text) if kind != "longstr" and re.fullmatch(r"-?\d+", text) else text


def plain(arguments: Mapping[str, object]) -> Definition:
    """Arguments without x- before their names."""
    return {name.removeprefix("x-"): value for name, value in arguments.items()}
