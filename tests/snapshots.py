"""PostgreSQL's snapshots in models of it: which transactions run, and whose rows one shows."""

from __future__ import annotations

from collections.abc import Iterable


def xmin(running: Iterable[int], last: int) -> int:
    """Of a snapshot: below it all have ended. `last`: the transaction id that was given out last."""
    return min(running, default=last + 1)


def snapshot(running: Iterable[int], last: int) -> str:
    """As pg_current_snapshot() has it."""
    open_ = sorted(running)
    return f"{xmin(open_, last)}:{last + 1}:{','.join(map(str, open_))}"


def shows(snapshot: str, xid: int) -> bool:
    """pg_visible_in_snapshot."""
    xmin, xmax, running = snapshot.split(":")
    return xid < int(xmin) or (xid < int(xmax) and str(xid) not in running.split(","))
