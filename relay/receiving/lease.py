"""Who is at work: the lease, and the mark of who was the last. (All else that a receiver declares: queues.py.)"""

import secrets
import shlex
from collections.abc import Callable

from pika.channel import Channel

from relay.amqp.replies import ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, RESOURCE_LOCKED
from relay.amqp.wire import Refused, Wire
from relay.errors import ConfigError, Standby, Unavailable
from relay.log import Log

Call = Callable[[Channel, Callable[..., None]], None]

_log = Log("receiver")


def lease_name(queue: str) -> str:
    """The exclusive queue that makes its declarer the only active receiver of `queue`."""
    return f"{queue}.lease"


def parked_name(queue: str) -> str:
    """The waiting room."""
    return f"{queue}.parked"


def control_name(queue: str) -> str:
    """Where commands for the running receiver go."""
    return f"{queue}.control"


def holder_name(queue: str) -> str:
    """Which receiver was the last one at work."""
    return f"{queue}.holder"


def take(wire: Wire, queue: str) -> None:
    """Become the only active receiver, for as long as this connection lives; or make sure that we still are.

    Raises:
        Standby: another one is.
        RelayError: anything else.
    """
    lease = lease_name(queue)
    refused = exclusive(wire, lease)
    if refused and refused.code == RESOURCE_LOCKED:
        raise Standby(f"another receiver is at work on queue {queue}")
    if refused:
        raise sorted_out(refused, f"queue {lease}")


def exclusive(wire: Wire, name: str, *, auto_delete: bool = False) -> Refused | None:
    """Declare a queue that falls with our connection. RESOURCE_LOCKED: another connection has it.

    Raises:
        ConfigError: a queue that is nobody's alone is in its place, and would be for ever.
    """
    refused = wire.refusal(
        lambda channel, cb: channel.queue_declare(name, exclusive=True, auto_delete=auto_delete, callback=cb),
        f"declaring {name}",
    )
    if refused and refused.code == RESOURCE_LOCKED and not wire.refusal(passive(name), f"looking at {name}"):
        remedy = f"look what is in it, then rabbitmqctl delete_queue -p {wire.vhost} {shlex.quote(name)}"
        raise ConfigError((f"a queue {name} that is not exclusive is in the place of ours", remedy))
    return refused


def passive(name: str) -> Call:
    """Look whether a queue is there, for `Wire.refusal`."""
    return lambda channel, callback: channel.queue_declare(name, passive=True, callback=callback)


def declaring(name: str, arguments: dict[str, object]) -> Call:
    """Declare a durable queue, for `Wire.refusal`."""
    return lambda channel, callback: channel.queue_declare(name, durable=True, arguments=arguments, callback=callback)


class Holder:
    """The mark of this process: was another receiver at work since we were? (Why it holds: docs/architecture.md.)

    A durable queue for nothing but the random number among its arguments. A message would not do: during an alarm none
    gets through.
    """

    def __init__(self) -> None:
        self._mark = 0  # that RabbitMQ has confirmed; 0 = none
        self._warned = False

    def claim(self, wire: Wire, queue: str) -> bool:
        """Put our mark there. Return whether our last one was still there, so that nobody was at work since.

        With the lease, before anything is read, whatever for. From the main flow.

        Raises:
            ConfigError: another's mark can't be taken away: it would believe that we have done nothing.
            RelayError: as `Wire.ask`.
        """
        name = holder_name(queue)
        there = _is_there(wire, name)
        if there and self._mark and not _declare_mark(wire, name, self._mark):
            return True
        if self._mark:
            _log.info("another receiver may have been at work since: what was delivered before is not taken for known")
        # None from here on, until RabbitMQ has said that the new one is there: whatever breaks, nothing is kept.
        self._mark = 0
        refused = there and wire.refusal(
            lambda channel, cb: channel.queue_delete(name, if_empty=True, callback=cb), f"deleting {name}"
        )
        if refused:
            raise _not_ours(refused, name, wire.vhost)
        mark = secrets.randbelow(1 << 53) + 1
        refused = _declare_mark(wire, name, mark)
        if refused and _is_there(wire, name):  # a dead receiver's last step came in between
            raise Unavailable(f"queue {name}: {refused.what}")
        if refused:
            self._warn(refused, name)  # without a mark nobody keeps a memory: events can come twice, in order
        else:
            self._mark = mark
        return False

    def _warn(self, refused: Refused, name: str) -> None:
        if not self._warned:
            said = f"{refused.said} -> {refused.remedy}" if refused.remedy else refused.said
            _log.warning(f"without queue {name} a lost connection repeats events: {said}")
        self._warned = True


def _is_there(wire: Wire, name: str) -> bool:
    refused = wire.refusal(passive(name), f"looking at {name}")
    return not refused or refused.code != NOT_FOUND


def _declare_mark(wire: Wire, name: str, mark: int) -> Refused | None:
    # Classic, since a new quorum queue does not outlive a broker that is killed within seconds. No message stays in it,
    # so that what does is not ours to delete.
    arguments: dict[str, object] = {"x-queue-type": "classic", "x-max-length": mark, "x-message-ttl": 0}
    return wire.refusal(declaring(name, arguments), f"declaring {name}")


def _not_ours(error: Refused, name: str, vhost: str) -> ConfigError | Unavailable:
    """What it means that another's mark stays."""
    if error.code == ACCESS_REFUSED:
        said = f"no permission to replace queue {name}, the last receiver's mark: {error.said}"
        return ConfigError((said, error.remedy))
    if error.code == PRECONDITION_FAILED:
        remedy = f"move its messages away, then rabbitmqctl delete_queue -p {vhost} {shlex.quote(name)}"
        return ConfigError((f"queue {name} is not a receiver's mark: {error.said}", remedy))
    return Unavailable(f"queue {name}: {error.what}")


def sorted_out(error: Refused, what: str, remedy: str = "") -> ConfigError | Unavailable:
    """What a refusal means for whoever runs us, in RabbitMQ's words.

    Args:
        what: the thing that can't be had.
        remedy: what to do if it exists with other arguments.
    """
    if error.code == PRECONDITION_FAILED and "inequivalent arg" in error.said:
        return ConfigError((f"{what} exists with other arguments: {error.said}", remedy))
    if error.code == PRECONDITION_FAILED:
        return ConfigError((f"{what} can't be declared: {error.said}", error.remedy))
    if error.code == ACCESS_REFUSED:
        return ConfigError((f"no permission for {what}: {error.said}", error.remedy))
    return Unavailable(f"{what}: {error.what}")
