"""What a lane finds in RabbitMQ: all of its generation, or it does not work. Nothing of it is made again alone."""

import functools
from collections.abc import Awaitable, Callable, Iterator

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.headers import slot
from relay.amqp.session import Session
from relay.amqp.topology import sorted_out
from relay.config import Receive
from relay.delivery import Event
from relay.errors import RelayError
from relay.receiving.lanes import ring
from relay.receiving.lanes.place import Place
from relay.receiving.lease import parked_name
from relay.receiving.queues import Declared
from relay.receiving.topics import Strays

ELSEWHERE = "its slot is of another lane, and not its key's, or it was put here past the exchange: by a stranger"


class LaneDeclared(Declared):
    """Of a lane, or of a queue that is emptied because other lanes follow it.

    Args:
        config: with the lane's queue.
    """

    def __init__(self, config: Receive, place: Place) -> None:
        super().__init__(config)
        self._place = place

    def _all(self, session: Session) -> Iterator[tuple[str, Callable[[], Awaitable[RelayError | None]]]]:
        if not self._place.ends:
            yield self._config.exchange, functools.partial(self.exchange, session)
            yield from self._bindings(session)
        parked = parked_name(self._config.queue)
        if self._config.order != "global":
            yield parked, lambda: self._queue(session, parked)

    async def _bind(self, session: Session, what: str, key: str) -> RelayError | None:
        """Of all lanes together; what is between them and their exchange stays as it is."""
        to, source = self._place.generation.exchange, self._config.exchange
        refused = await session.refusal(what, Channel.exchange_bind, to, source, key)
        return sorted_out(refused, what) if refused else None

    async def look(self, session: Session) -> None:
        """Are all lanes there? Raises ConfigError: no; or RelayError."""
        await super().look(session)
        place = self._place
        if not place.is_lane or place.ends:
            return
        async for lost in ring.missing(session, place.generation):
            raise ring.broken(place.generation, lost)


class LaneStrays(Strays):
    """Is shown each message: one of a slot that is another lane's comes when a binding was lost.

    Args:
        config: with the lane's queue.
    """

    def __init__(self, config: Receive, place: Place) -> None:
        super().__init__(config)
        self._place = place
        self._exchange = config.exchange
        self.on_lost: Callable[[], None] = lambda: None
        """Called when such a one has come."""

    def look(self, method: Basic.Deliver, properties: Properties, event: Event) -> str:
        """See Strays. Only what the listener may have published proves a loss: others write any slot, and two of them.

        Whoever signs an event signs its key; of what is not signed as it must be no key is believed.
        """
        super().look(method, properties, event)
        place = self._place
        if place.ends or not event.slot or place.generation.lane_of(event.slot) == place.number:
            return ""
        if method.exchange == self._exchange and event.key and event.slot == slot(event.key.encode()):
            self.on_lost()
            return ""
        return ELSEWHERE
