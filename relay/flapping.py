"""What comes and goes all the time is told a few times, then counted: one line, not one each time. Pure."""

import dataclasses

FEW = 3  # times in a window that are told
WINDOW = 300.0  # seconds
LASTS = 30.0  # seconds after which it is told all the same: it does not go any more
NAMES_MAX = 1000  # that are remembered; of others all is told


@dataclasses.dataclass(frozen=True, slots=True)
class _Trouble:
    since: float  # of the window
    times: int
    began: float | None  # None: it is not there
    told: bool


class Flapping:
    """Which beginnings and ends of troubles, each with a name, are told. Times: monotonic seconds.

    `due` is to be asked now and then: it ends the windows.
    """

    def __init__(self) -> None:
        self._troubles: dict[str, _Trouble] = {}

    def begins(self, name: str, now: float) -> bool:
        """It has begun: is that told?"""
        known = self._troubles.get(name)
        if known is None and len(self._troubles) >= NAMES_MAX:
            return True
        since, times = (known.since, known.times + 1) if known else (now, 1)
        self._troubles[name] = _Trouble(since, times, now, told=times <= FEW)
        return times <= FEW

    def ends(self, name: str) -> bool:
        """It is over: is that told? Not if its beginning was not."""
        known = self._troubles.get(name)
        if known is None:
            return True
        self._troubles[name] = dataclasses.replace(known, began=None)
        return known.told

    def end_all(self) -> None:
        """None of them is known to be there any more."""
        for name, one in self._troubles.items():
            self._troubles[name] = dataclasses.replace(one, began=None)

    def lasting(self, now: float) -> list[str]:
        """Those whose beginning was not told, and that are still there: now it is."""
        if not self._troubles:
            return []
        found = [
            name
            for name, one in self._troubles.items()
            if one.began is not None and not one.told and now - one.began >= LASTS
        ]
        for name in found:
            self._troubles[name] = dataclasses.replace(self._troubles[name], told=True)
        return found

    def due(self, now: float) -> list[tuple[str, int, float]]:
        """Those that came so often that not all of it was told: name, how often, in how many seconds."""
        if not self._troubles:
            return []
        found = []
        for name, one in list(self._troubles.items()):
            if now - one.since < WINDOW:
                continue
            if one.times > FEW:
                found.append((name, one.times, now - one.since))
            if one.began is None:
                del self._troubles[name]
            else:
                self._troubles[name] = dataclasses.replace(one, since=now, times=1)
        return found
