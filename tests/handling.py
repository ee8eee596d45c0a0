"""What the tests of TARGET=python share: a module of functions, and what they have done."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from dev.script import Script
from dev.vhost import Vhost
from tests.receiving import bare, run

Make = Callable[..., Script]

HEAD = """
import os, pathlib, sys, threading, time
from relay.handlers import Refuse, Retry, handles, inbox

HERE = pathlib.Path(__file__).parent

def _note(text):
    with open(HERE / "done", "a") as file:
        file.write(f"{text}\\n")
"""


def handlers(vhost: Vhost, tmp_path: Path, text: str, **more: object) -> Mapping[str, object]:
    """Settings of a receiver with these functions, which `_note` what they do."""
    (tmp_path / "shop_events.py").write_text(HEAD + textwrap.dedent(text))
    return {
        "RABBITMQ_URL": vhost.url,
        "QUEUE": "shop",
        "TARGET": "python",
        "PYTHON_HANDLERS": "shop_events",
        "HANDLER_PATH": tmp_path,
        "RETRY_MIN": "0.05",
        "RETRY_MAX": "0.2",
        "RECONNECT_MIN": "0.05",
        "RECONNECT_MAX": "0.2",
        **more,
    }


def done(tmp_path: Path) -> list[str]:
    """What functions have noted, in order."""
    file = tmp_path / "done"
    return file.read_text().splitlines() if file.exists() else []


__all__ = ["Make", "bare", "done", "handlers", "run"]
