"""What the tests of the receiving half share: settings with short waits, and how order is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from dev import forkserver
from dev.doubles.endpoint import Endpoint
from dev.script import ROOT, Script
from dev.vhost import Vhost


def settings(vhost: Vhost, endpoint: Endpoint, **more: object) -> Mapping[str, object]:
    """Settings of a receiver with waits that a test can sit out."""
    return {
        "RABBITMQ_URL": vhost.url,
        "QUEUE": "odoo",
        "HTTP_URL": endpoint.url,
        "HTTP_TIME_LIMIT": "1",
        "RETRY_MIN": "0.05",
        "RETRY_MAX": "0.2",
        "RECONNECT_MIN": "0.05",
        "RECONNECT_MAX": "0.2",
        **more,
    }


def by_key(endpoint: Endpoint) -> dict[str, list[int]]:
    """The numbers that arrived for each key, in order of completion."""
    found: dict[str, list[int]] = defaultdict(list)
    for body in endpoint.bodies():
        found[body["key"]].append(body["n"])
    return found


def assert_order(endpoint: Endpoint) -> None:
    """Of each key: the first completion of each event in order, and never an older one after a newer one alone.

    After a crash a tail may come again, but then all of it: the last event to complete is the newest.
    """
    for key, numbers in by_key(endpoint).items():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts), f"{key}: out of order: {numbers}"
        assert numbers[-1] == max(numbers), f"{key}: an older event came last: {numbers}"


def run(receiver: Script, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command of receiver.py with the settings of `receiver`."""
    command = [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(receiver.env_file), *arguments]
    return forkserver.run(command, timeout=timeout, env=bare())


def bare() -> dict[str, str]:
    """Our environment without what names the real Odoo of a test: settings there go before those of an env file."""
    return {key: value for key, value in os.environ.items() if not key.startswith("ODOO_")}


def done(result: subprocess.CompletedProcess[str]) -> Any:
    """Its output, once it has ended well."""
    assert result.returncode == 0, f"{result.returncode}\n{result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result.stdout


def parked(receiver: Script) -> list[dict[str, Any]]:
    """What lies in the parking lot; while that is read anew, asked again."""
    while (result := run(receiver, "parked", "--json")).returncode == 75 and "is being read" in result.stderr:
        pass
    found: list[dict[str, Any]] = json.loads(done(result))
    return found


def with_constants(*assignments: str) -> dict[str, str]:
    """The environment of a script with other constants: "relay.listening.sleep.RELOCK_AFTER=0.2"."""
    return {"SHORTENED": " ".join(assignments), "PYTHONPATH": f"{ROOT / 'tests' / 'shortened'}:{ROOT}"}
