"""Of which troubles a person is alerted, and when each of them is over. Pure.

A trouble is raised once it has lasted for a while (Prometheus: `for`), and ended once it has not been seen for a while
(`keep_firing_for`): one that comes and goes is one alert, with a count.
"""

import collections
import dataclasses
from collections.abc import Mapping

SERVER = "server"  # PostgreSQL or RabbitMQ is away, or refuses us
ENDPOINT = "endpoint"  # it does not work
AGE = "age"  # the oldest event waits for too long
PARKED = "parked"  # events were refused by the endpoint, and wait for a person
REFUSED = "refused"  # the same by RabbitMQ, in the outbox
CAPTURE = "capture"  # not all changes of a watched table are captured
CAUSES = (SERVER, ENDPOINT, AGE, PARKED, REFUSED, CAPTURE)


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """What is told to a person. Times: monotonic seconds."""

    cause: str
    raised: bool  # else it is over
    reason: str
    since: float  # when the trouble was seen first
    seen: float  # when it was seen last
    times: int  # that it came


@dataclasses.dataclass(frozen=True, slots=True)
class _Trouble:
    reason: str
    since: float
    seen: float
    is_there: bool = True
    raised: bool = False
    times: int = 1


class Alerts:
    """Decides.

    Args:
        after: seconds that a trouble of this cause must last; 0 where it does not say.
        keep: seconds without a trouble until it is over.
    """

    def __init__(self, after: Mapping[str, float], keep: float) -> None:
        self._after = after
        self._keep = keep
        self._troubles: dict[str, _Trouble] = {}

    def look(self, now: float, found: Mapping[str, str]) -> list[Alert]:
        """Return what is to be told.

        Args:
            now: monotonic seconds.
            found: by cause, the reason of a trouble, or nothing: there is none. What is not named can't be told now,
                and stays as it is.
        """
        told = []
        for cause, reason in found.items():
            trouble = self._troubles.get(cause)
            if reason:
                trouble = _seen(trouble, reason, now)
                if not trouble.raised and now - trouble.since >= self._after.get(cause, 0.0):
                    trouble = dataclasses.replace(trouble, raised=True)
                    told.append(_alert(cause, trouble))
                self._troubles[cause] = trouble
            elif trouble is not None and not trouble.raised:
                del self._troubles[cause]
            elif trouble is not None and now - trouble.seen >= self._keep:
                del self._troubles[cause]
                told.append(_alert(cause, dataclasses.replace(trouble, raised=False)))
            elif trouble is not None:
                self._troubles[cause] = dataclasses.replace(trouble, is_there=False)
        return told


def _seen(trouble: _Trouble | None, reason: str, now: float) -> _Trouble:
    if trouble is None:
        return _Trouble(reason, now, now)
    times = trouble.times + (not trouble.is_there)
    return dataclasses.replace(trouble, reason=reason, seen=now, is_there=True, times=times)


def _alert(cause: str, trouble: _Trouble) -> Alert:
    return Alert(cause, trouble.raised, trouble.reason, trouble.since, trouble.seen, trouble.times)


class Pending:
    """Alerts that wait for the one before them: of each cause at most that it has begun, and that it is over."""

    def __init__(self) -> None:
        self._alerts: collections.deque[Alert] = collections.deque()

    def add(self, alert: Alert) -> None:
        """One that begins again before anybody was told that it was over, has not ended."""
        over = [one for one in self._alerts if one.cause == alert.cause and not one.raised]
        if alert.raised and over:
            self._alerts.remove(over[0])
        else:
            self._alerts.append(alert)

    def take(self) -> Alert | None:
        """The first."""
        return self._alerts.popleft() if self._alerts else None
