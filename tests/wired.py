"""A session that plain test functions drive, one step after another."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import connection
from dev.vhost import Vhost
from relay import config
from relay.amqp.session import Session
from relay.daemon import Stop
from relay.errors import RelayError
from relay.receiving.fence import Fence


class Wired:
    """The loop turns while `run`, `until` or `turn` do."""

    def __init__(self, settings: config.Receive) -> None:
        self.settings = settings
        self.stop: Stop
        self.session: Session
        self.fence: Fence
        self._closed = False
        self._runner = asyncio.Runner()
        self._runner.run(self._open())

    async def _open(self) -> None:
        self.stop = Stop()
        self.session = Session(self.stop)
        await self.session.__aenter__()
        self.session.attach(await self.another())
        self.fence = Fence(self.session, self.another, collections.Counter())

    async def another(self) -> Any:
        return await connection.open_rabbitmq(self.settings, name="test")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do it as a session's main flow. Raises what the session was failed with."""

        async def working() -> Any:
            self.session._task = asyncio.current_task()
            try:
                if self.session._error is not None:
                    work.close()
                    raise self.session._error
                return await work
            except asyncio.CancelledError:
                if self.session._error is None:
                    raise
                raise self.session._error from None

        return self._runner.run(working())

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Turn the loop until it holds."""

        async def waiting() -> None:
            async with asyncio.timeout(seconds):
                while not condition():
                    await asyncio.sleep(0.002)

        self.run(waiting())

    def turn(self, seconds: float) -> None:
        """Turn the loop for so long."""
        self.run(asyncio.sleep(seconds))

    def close(self) -> None:
        """End the session; once more does nothing."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(RelayError):
            self._runner.run(self._leave())
        self._runner.close()

    async def _leave(self) -> None:
        self.session._cancelled = False
        await self.session.__aexit__(None, None, None)


@contextlib.contextmanager
def wired(vhost: Vhost) -> Iterator[Wired]:
    environ = {"RABBITMQ_URL": vhost.url, "QUEUE": "q", "HTTP_URL": "http://127.0.0.1:1/"}
    made = Wired(config.load(config.Receive, None, environ))
    try:
        yield made
    finally:
        made.close()


def alive(*kinds: type) -> dict[str, int]:
    """How many objects of each kind there are."""
    gc.collect()
    found = gc.get_objects()
    return {kind.__name__: sum(type(one) is kind for one in found) for kind in kinds}
