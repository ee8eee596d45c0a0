"""What `check` says of an outbox, whosever it is."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from relay.checks import Limits
from relay.cli import duration, plural
from relay.findings import Finding, Measure, failed, measured


def watched(found: Mapping[str, Any], how: str) -> Iterator[Finding]:
    """Which tables are watched, and what of them is not captured.

    Args:
        found: what `status` knows of the database.
        how: a table is watched.
    """
    tables = found["watched"]
    yield Finding(
        "watched", detail=plural(len(tables), "table") if tables else "no table", remedy="" if tables else how
    )
    for table in tables:
        if table["note"]:
            yield failed(f"watched {table['tbl']}", table["note"], table["remedy"])


def waiting(found: Mapping[str, Any], limits: Limits, more: str = "") -> Iterator[Finding]:
    """How much waits, for how long, and what was refused.

    Args:
        found: what `status` knows of the database.
        more: about what waits.
    """
    events = sum(topic["events"] for topic in found["pending"])
    remedy = "listen.py status shows which; is listen.py running, and RabbitMQ taking them?"
    yield measured("outbox", Measure("outbox", events, "", *limits.waiting), plural(events, "event") + more, remedy)
    if events:
        age = max(0.0, time.time() - min(topic["oldest"] for topic in found["pending"]).timestamp())
        yield measured("oldest event", Measure("oldest", age, "s", *limits.age), f"{duration(age)} old", remedy)
    if refused := sum(topic["errors"] for topic in found["pending"]):
        remedy = "listen.py status shows them; listen.py release ID (or --all) tries again, listen.py drop ID gives up"
        yield failed("refused", f"{plural(refused, 'event')} refused by the broker", remedy)
