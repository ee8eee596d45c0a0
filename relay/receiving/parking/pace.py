"""When the next pass through the parking lot may begin, and how long it may last. Pure."""

from relay.receiving.parking.sweep import Sweep

REST = 0.0002  # seconds for each message read, four times what that took: thousands of strands may be due
WORTH = 4  # unless one of so many strands has been woken
LONGEST = 600.0  # seconds: a third of RabbitMQ's acknowledgement timeout; then the channel is closed and opened anew
LONGEST_LARGE = 30.0  # seconds, while nothing can be put in
TURN = 5.0  # seconds between two such passes: the window has its turn
OUTWEIGHED = 4  # times as many strands that another pass could move end one that trickles out
LONGEST_HURRIED = 2.0  # seconds, if a person has asked for something that only the next pass can do


class Pace:
    """Of one session's passes."""

    def __init__(self) -> None:
        self.is_hurried = False  # a person wants one
        self.vain = 0  # passes that have just read a part, and not the right one
        self._earliest = self._rests_until = 0.0  # monotonic seconds
        self._woken = 0  # strands that no pass has taken along

    def may_begin(self, now: float, strands: int, *, asked: bool) -> bool:
        """May one begin? `strands`: those that are there. `asked`: by whoever sends commands, as often as he likes."""
        has_rested = now >= self._rests_until
        return has_rested if asked else now >= self._earliest and (has_rested or self._woken * WORTH >= strands > 0)

    def expedite(self) -> None:
        """A person has asked for something."""
        self.is_hurried = True

    def wake(self, strands: int) -> None:
        """What so many strands have waited for has come, and no pass takes them along."""
        self._woken += strands

    def begin(self) -> None:
        """A pass begins."""
        self.is_hurried, self._woken = False, 0

    def is_over(self, sweep: Sweep, now: float, *, large: bool) -> bool:
        """Has it lasted for as long as it may? `large`: nothing can be put in meanwhile."""
        longest = LONGEST_HURRIED if self.is_hurried else LONGEST_LARGE if large else LONGEST
        return now - sweep.began > longest

    def is_outweighed(self, sweep: Sweep, now: float) -> bool:
        """Do many more wait for the next one than trickle out of this one, in ever smaller batches?"""
        trickle = sweep.trickle
        has_paid = now - sweep.began >= REST * sweep.has_read
        return trickle is not None and has_paid and self._woken >= max(1, trickle) * OUTWEIGHED

    def end(self, sweep: Sweep, now: float, *, large: bool) -> None:
        """It ends."""
        self.vain = self.vain + 1 if sweep.was_in_vain else 0
        self._rests_until = now + REST * sweep.has_read
        self._earliest = now + (TURN if large else 0)
