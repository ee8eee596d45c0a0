"""What outlives a session of the receiver: a request does, and so must what knows about it."""

import collections
import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from pika.adapters.blocking_connection import BlockingConnection

from relay.config import FAILOVER, Receive
from relay.delivery import Event, Ranked, Target
from relay.log import Log
from relay.receiving import lease, queues
from relay.receiving.asking import Asking
from relay.receiving.breaker import Breaker
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.filling import Filling
from relay.receiving.parking.index import ParkedIndex
from relay.receiving.status import Status
from relay.receiving.strands import Strands
from relay.receiving.summary import Summary
from relay.receiving.topics import Strays
from relay.receiving.workers import Workers


@dataclasses.dataclass
class Parts:
    """One of each, for the life of the process."""

    strands: Strands
    dispatcher: Dispatcher
    workers: Workers
    index: ParkedIndex
    declared: queues.Declared
    strays: Strays
    summary: Summary
    status: Status
    filling: Filling
    asking: Asking
    wants: Callable[[Event], bool]  # is an event asked for?
    probes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    holder: lease.Holder = dataclasses.field(default_factory=lease.Holder)


def make(
    config: Receive,
    target: Target,
    declared: queues.Declared,
    wants: Callable[[Event], bool],
    open_now: Callable[[], AbstractContextManager[BlockingConnection]],
    log: Log,
    strays: Strays,
) -> Parts:
    """Make one of each.

    Args:
        declared: makes what the receiver needs in RabbitMQ.
        wants: is an event asked for?
        open_now: opens a blocking connection to RabbitMQ, for a thread. Raises RelayError.
        log: of the receiver.
        strays: is shown each message.
    """
    endpoint = config.endpoint()
    where = endpoint.shown() if endpoint else config.target
    retries = max(1, config.workers // 4)
    rank = target.rank if isinstance(target, Ranked) and config.order != "global" else None
    barriers = config.order == "key" and config.lane is None
    strands = Strands(
        config.order, target.group, remember=4 * config.prefetch, retries=retries, rank=rank, barriers=barriers
    )
    index = ParkedIndex(barriers=barriers)
    workers = Workers(target, config.workers, lambda item: item.is_deleted or index.has_delete(item.strand.key))
    dispatcher = Dispatcher(
        strands,
        workers,
        Breaker(streak=max(3, config.workers), minimum=config.retry_min),
        batch_size=target.batch_size,
        retry=(config.retry_min, config.retry_max),
        max_attempts=config.max_attempts,
        max_rate=config.max_rate,
        clock=time.monotonic,
        log=log,
        where=where,
    )
    summary = Summary(dispatcher, strands, index, log)
    filling = Filling(config, declared.wishes, open_now)
    asking = Asking(config, target, open_now, dispatcher.go_on)
    status = Status(config, dispatcher, strands, workers, index, where, filling.told)
    made = Parts(strands, dispatcher, workers, index, declared, strays, summary, status, filling, asking, wants)
    if config.queue_type == FAILOVER:
        made.holder = lease.Holder(in_cluster=True)
    return made
