"""What comes again after an orderly end: which of it need only be acknowledged."""

from __future__ import annotations

import pytest

from relay.delivery import Event
from relay.receiving.lost_acks import Known


def event(name: str) -> Event:
    key, _, number = name.partition(".")
    return Event(b"", "t", id=name, op="truncate" if key == "t" else "update", key=key, table="t", seq=int(number))


@pytest.mark.parametrize(
    ("queue", "done", "acknowledged"),
    [
        ("1.1 1.2 1.3", "1.1 1.2", "1.1 1.2"),
        ("1.1 2.2", "2.2", "2.2"),  # another row
        ("1.1 1.2 1.3", "1.2 1.3", ""),
        ("1.1 t.2 2.3", "t.2 2.3", ""),  # a truncate behind a row that stays, and a row behind that truncate
        ("t.1 1.2", "1.2", ""),
        ("1.1 t.2 2.3", "1.1 t.2 2.3", "1.1 t.2 2.3"),
    ],
)
def test_what_stands_behind_something_that_stays_is_not_acknowledged(queue: str, done: str, acknowledged: str) -> None:
    known = Known(lambda one: one.id in done.split())
    assert [name for name in queue.split() if known.may_go(event(name))] == acknowledged.split()
