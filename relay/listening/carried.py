"""What one process of the listener remembers from session to session."""

from collections.abc import Callable

from relay.flapping import Flapping
from relay.listening.addressees import Addressees
from relay.listening.backlog import Backlog
from relay.listening.confirmed import Confirmed
from relay.listening.questions import Questions
from relay.listening.suspects import Suspects
from relay.listening.tally import Tally
from relay.log import Log


class Carried:
    """What one process remembers from session to session.

    Args:
        warn_at: OUTBOX_WARN.
        is_shown: is STATUS_ADDR or ALERT_COMMAND set?
        soon: calls what it is given, when what goes on has ended.
        rights: the command that gives our user in RabbitMQ what it must be allowed.
    """

    def __init__(
        self, warn_at: int, log: Log, soon: Callable[[Callable[[], None]], object], *, is_shown: bool, rights: str = ""
    ) -> None:
        self.addressees = Addressees(log, rights)
        self.confirmed = Confirmed()
        self.suspects = Suspects()
        self.flapping = Flapping()
        self.questions = Questions()
        self.tally = Tally(log, soon)
        self.backlog = Backlog(warn_at, self.tally, log, is_shown=is_shown)
