"""Who sees what a target sends and what is answered: `receiver.py try`."""

import contextvars
from typing import Protocol

from relay.targets.answer import Answer


class Watcher(Protocol):
    """Sees it."""

    def begins(self, request: bytes, *, reads: bool) -> bool:
        """A request is about to be sent: may it be? `reads`: it changes nothing there."""
        ...

    def answered(self, answer: Answer) -> None:
        """Its whole answer."""
        ...

    def calls(self, what: str) -> bool:
        """A function of the user's is about to be called: may it be? `what`: its name and arguments."""
        ...


watcher: contextvars.ContextVar[Watcher | None] = contextvars.ContextVar("watcher", default=None)
"""Who watches the requests of this task; None = nobody."""
