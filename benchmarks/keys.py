"""What is measured: every key of results.json with its unit, its target and what it means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """One figure. `target` of the median: at least, or at most if `low`; None = for information."""

    name: str
    means: str
    target: float | None = None
    low: bool = False
    unit: str = ""

    def met(self, median: float) -> bool | None:
        """Whether a median meets the target; None if there is none."""
        if self.target is None:
            return None
        return median <= self.target if self.low else median >= self.target
