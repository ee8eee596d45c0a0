"""Events that are published without a pause, whatever becomes of the nodes of a cluster."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, Self

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, NackError

from dev.rabbitmq import RabbitMQ
from tests.cluster.conftest import Shared
from tests.messages import properties


class Traffic:
    """Numbered events of a few keys, one after another, each until it is confirmed: what is in `published` is safe.

    Used with `with`; a thread of its own. `nodes`: over which it publishes; none = any that lives.
    """

    def __init__(self, shared: Shared, keys: int = 5, pause: float = 0.01, nodes: Sequence[RabbitMQ] = ()) -> None:
        self._shared = shared
        self._keys = keys
        self._pause = pause
        self._nodes = nodes
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.published: dict[str, int] = {}  # of a key: its last number

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Publish no more; what was begun is confirmed."""
        self._ends.set()
        self._thread.join()

    @property
    def count(self) -> int:
        return sum(n + 1 for n in self.published.values())

    def _run(self) -> None:
        channel: BlockingChannel | None = None
        for number in itertools.count():
            if self._ends.is_set():
                break
            key, n, event_id = f"key {number % self._keys}", number // self._keys, str(uuid.uuid4())
            own = properties(event_id, key, "t", "update")
            body = json.dumps({"id": event_id, "n": n, "key": key, "op": "update"}).encode()
            while True:
                try:
                    channel = channel or self._open()
                    channel.basic_publish("relay", "t", body, own, mandatory=True)
                    break
                except (NackError, AMQPError, OSError):
                    channel = None
                    time.sleep(0.2)
            self.published[key] = n
            time.sleep(self._pause)
        if channel is not None:
            channel.connection.close()

    def _open(self) -> BlockingChannel:
        errors: list[Any] = []
        for node in self._nodes or self._shared.cluster.living:
            parameters = pika.URLParameters(node.url(self._shared.name))
            parameters.socket_timeout = parameters.blocked_connection_timeout = 2
            try:
                channel = pika.BlockingConnection(parameters).channel()
                channel.confirm_delivery()
                return channel
            except (AMQPError, OSError) as error:
                errors.append(error)
        raise errors[-1] if errors else OSError("no node lives")
