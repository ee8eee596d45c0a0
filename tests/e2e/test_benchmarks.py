"""Every measure can be taken: nothing else runs the benchmarks' own statements."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import GROUPS
from benchmarks.chart import draw_soak
from dev.script import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def run(out: Path, timeout: float, *words: str) -> Any:
    """What a module of the benchmarks writes into `out`."""
    command = [sys.executable, "-m", *words, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(out.read_text())


def test_each_figure_can_be_had(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", 1700, "benchmarks", "--rounds", "1", "--scale", "0.01")
    assert {key.name for group in GROUPS for key in group.KEYS} - found.keys() == set()


def test_a_soak_sees_every_change_once_and_can_be_drawn(tmp_path: Path) -> None:
    found = run(tmp_path / "soak.json", 300, "benchmarks.soak", "--minutes", "0.2", "--sample", "4")
    assert found["samples"][-1]["events"] == found["written"] > 0
    assert draw_soak(found).count("<polyline") == 8
