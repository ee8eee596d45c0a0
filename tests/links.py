"""A target's link for tests that have no event loop: it has one of its own, which turns only while it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from relay.delivery import Delivery, Outcome, Target
from relay.findings import Finding

T = TypeVar("T")


class Driven:
    """An object on a loop of its own, made by `make` while the loop runs."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(what)

    def close(self) -> None:
        self._runner.close()


class Link(Driven):
    """One link of a target."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.link = target.open()

    def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        return self.run(self.link.deliver(batch))

    def probe(self) -> Outcome | None:
        return self.run(self.link.probe())

    def close(self) -> None:
        self.link.close()
        super().close()


def findings(target: Target) -> Iterator[Finding]:
    """What `check` finds."""

    async def collect() -> list[Finding]:
        return [one async for one in target.check()]

    return iter(asyncio.run(collect()))
