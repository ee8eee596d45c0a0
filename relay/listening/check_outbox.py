"""What `check` says of an outbox, whosever it is."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from relay.checks import Limits
from relay.cli import duration, plural
from relay.findings import Finding, Measure, failed, measured


class Known(NamedTuple):
    """What of a database the look at RabbitMQ goes by.

    Args:
        topics: of what is watched and of what waits.
        waiting: events that could be published.
        listeners: their sessions there; None = it does not tell.
    """

    topics: frozenset[str] = frozenset()
    waiting: int = 0
    listeners: int | None = None


def known(found: Mapping[str, Any], listeners: int | None = None) -> Known:
    """Of what `status` knows of the database."""
    topics = frozenset(one["topic"] for one in (*found["watched"], *found["pending"]) if one["topic"])
    return Known(topics, sum(one["events"] - one["errors"] for one in found["pending"]), listeners)


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
