"""Until when may a request be begun? Not when our lease may have gone without our knowing it. Pure.

RabbitMQ takes away the connection of a client that it has not heard for one to two heartbeat intervals, and with it the
lease; then another receiver delivers what we still hold. A process that was stopped (SIGSTOP, a virtual machine that is
moved) or whose link is dead must not go on with it, least of all at the moment in which it wakes up. (A connection that
was closed meanwhile takes the lease along at once: then the kernel knows, `Workers.may_begin`.)
"""

STILL = 0.5  # of a heartbeat interval: so long may the loop stand still, and what it said last holds
SILENCE = 0.75  # of one: so long may the broker say nothing; it says something twice in an interval


class Standstill:
    """Asked at every tick of the session.

    Args:
        heartbeat: seconds, as agreed with the broker.
        now: monotonic seconds.
        received: bytes that have come from the broker.
    """

    def __init__(self, heartbeat: float, now: float, received: int) -> None:
        self._heartbeat = heartbeat
        self._ticked = self._heard = now
        self._received = received

    def begin_until(self, now: float, received: int) -> float | None:
        """Until when requests may be begun, if no other tick comes. None: we stood still, the session must end."""
        stood_still, self._ticked = now - self._ticked, now
        if stood_still > STILL * self._heartbeat:
            return None
        if received != self._received:
            self._received, self._heard = received, now
        return min(now + STILL * self._heartbeat, self._heard + SILENCE * self._heartbeat)
