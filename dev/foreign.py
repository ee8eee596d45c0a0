"""Packages of another Debian suite than the system's: where they come from, and how their programs run here."""

from __future__ import annotations

from pathlib import Path

from dev.process import ServerError


def sources(work: Path, suite: str) -> dict[str, str]:
    raise ServerError(f"suite {suite} in {work}: not written yet")


def adapt(root: Path, tools: Path) -> None:
    raise ServerError(f"{root} {tools}: not written yet")
