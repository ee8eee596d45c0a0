"""What a person sees: one line an event of the story, and a progress line that rewrites itself on a terminal."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

from tqdm import tqdm

PLAIN_SECONDS = 5.0  # between two lines of progress where nothing can be rewritten
RATE_SECONDS = 3.0  # over which a rate is taken
_BAR = "|{{bar:12}}| {text}"  # with the text below 80 columns


class Show:
    """Prints to standard output. Times are seconds since `begin`."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None
        self._said = 0.0
        self._samples: list[tuple[float, int]] = []

    def begin(self) -> None:
        """Count seconds from now on."""
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def say(self, what: str, text: str) -> None:
        """One line; the progress line, if there is one, moves below it."""
        line = f"{self.seconds:6.1f} s  {what:<8} {text}"
        if self._bar is None:
            self.plain(line)
        else:
            self._bar.write(line, file=sys.stdout)

    def plain(self, text: str = "") -> None:
        """Text as it is, not above a progress line."""
        print(text, flush=True)

    def progress(self, done: int, total: int, unit: str, more: str = "") -> None:
        """How far it is; may be called as often as one likes."""
        now = time.monotonic()
        self._samples = [(at, n) for at, n in self._samples if at > now - RATE_SECONDS] + [(now, done)]
        (at, n), span = self._samples[0], max(now - self._samples[0][0], 0.001)
        rate = f", {(done - n) / span:,.0f}/s" if now > at else ""
        text = f"{done:,} of {total:,} {unit}{rate}{more}"
        if sys.stdout.isatty():
            self._rewrite(done, total, text)
        elif now - self._said >= PLAIN_SECONDS:
            self._said = now
            self.plain(f"{self.seconds:6.1f} s  {'':<8} {text}")

    def _rewrite(self, done: int, total: int, text: str) -> None:
        if self._bar is None:
            self._bar = tqdm(file=sys.stdout, leave=False, dynamic_ncols=True, mininterval=0)
        self._bar.bar_format = f"{self.seconds:6.1f} s  {_BAR.format(text=text)}"
        self._bar.total, self._bar.n = max(total, 1), done
        self._bar.refresh()

    def end_progress(self) -> None:
        """Take the progress line away."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._samples, self._said = None, [], 0.0
