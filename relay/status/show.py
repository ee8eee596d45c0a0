"""The door to what STATUS_ADDR needs: nothing of it is imported where that is not set."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from relay.config import Common
from relay.log import Log

if TYPE_CHECKING:
    from relay.status.board import Shown


@contextlib.asynccontextmanager
async def shown(half: "Shown", config: Common, log: Log) -> AsyncIterator[None]:
    """Show a half of the relay meanwhile where STATUS_ADDR says, if it does."""
    where = config.status_addr
    if where is None:
        yield
        return
    from relay.status.board import Board

    board = Board(half, where.host, where.port, config.status_token, log)
    board.start()
    try:
        yield
    finally:
        await board.close()
