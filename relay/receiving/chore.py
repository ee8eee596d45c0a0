"""What has to await RabbitMQ's answers, and so is done in the main flow of a session, one after another."""

import dataclasses
from collections.abc import Awaitable, Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Chore:
    """One of them."""

    due: Callable[[float], bool]  # by monotonic seconds
    do: Callable[[float], Awaitable[None]]
