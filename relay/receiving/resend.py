"""`receiver.py resend`: a table's rows, sent again to this queue alone."""

from pika.adapters.blocking_connection import BlockingConnection

from relay.cli import EX_FAILED, plural, print_line
from relay.config import Receive
from relay.daemon import EX_OK, EX_TEMPFAIL
from relay.errors import ConfigError, NotFound, Unavailable
from relay.log import complain
from relay.receiving.commands import look_at
from relay.receiving.fill import Answer, Wish, hear


def resend(handle: BlockingConnection, config: Receive, wish: Wish) -> int:
    """Ask for it, and show how far it is. Return the exit status.

    Raises:
        ConfigError: no such queue, or no listener.
        pika.exceptions.AMQPError: as `hear`.
    """
    if not wish.source:
        raise ConfigError(("whose table? SOURCE is not set", "--source NAME: the listener's, by default its database"))
    if look_at(handle, wish.queue) is None:
        raise ConfigError((f"queue {wish.queue} does not exist", "correct QUEUE; receiver.py makes it when it runs"))
    last = Answer(0, wish.after, "", done=False)

    def told(answer: Answer) -> None:
        nonlocal last
        if not answer.done and (answer.rows, answer.waits) != (last.rows, last.waits):
            why = f", {answer.waits}" if answer.waits else ""
            complain(f"{wish.table}: {plural(answer.rows, 'row')}{why}")
        last = answer

    try:
        hear(handle, wish, config.command_key, told)
    except (NotFound, Unavailable) as error:
        complain(f"receiver.py resend: {error}{_again(last)}")
        return EX_TEMPFAIL if isinstance(error, Unavailable) else EX_FAILED
    except KeyboardInterrupt:
        complain("the listener goes on with it")
        raise
    if last.none:
        complain(f"receiver.py resend: {wish.table} has no row {last.none[0]}, or the watch's condition leaves it out")
        return EX_FAILED
    print_line(f"{plural(last.rows, 'row')} of {wish.table} sent to queue {wish.queue}")
    return EX_OK


def _again(last: Answer) -> str:
    return f"; to go on: --after '{last.after}'" if last.rows and last.after else ""
