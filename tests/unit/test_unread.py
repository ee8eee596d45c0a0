"""Which errors of a read are one row's: those are looked for, every other one ends the session."""

from types import SimpleNamespace
from typing import Any

import pytest

from relay.errors import Unavailable
from relay.listening.unread import LONG, Unread
from relay.log import Log


@pytest.mark.parametrize(
    ("sqlstate", "of_a_row"),
    [
        ("22021", True),
        ("54000", True),
        ("XX001", True),
        (None, True),
        ("57014", True),
        ("53200", False),
        ("42501", False),
    ],
)
def test_an_error_that_is_a_row_s_has_fewer_rows_read(sqlstate: str | None, of_a_row: bool) -> None:
    """54000: headers that are more than 1 GB as text, which relay.publish takes no more."""
    failed: list[Exception] = []
    tried: list[int] = []
    database: Any = SimpleNamespace(refusal=lambda error: Unavailable(error.pgcode, ""))  # asked nothing else
    unread = Unread(database, Log("test"), failed.append, lambda: tried.append(unread.maximum), 1000)
    error: Any = SimpleNamespace(pgcode=sqlstate)
    unread.met(error, "", {}, 100)
    assert (tried, bool(failed)) == (([50], False) if of_a_row else ([], True))


def test_a_read_that_takes_too_long_is_tried_with_fewer_rows_and_never_one_s_fault() -> None:
    failed: list[Exception] = []
    database: Any = SimpleNamespace(refusal=lambda error: Unavailable(error.pgcode, ""))
    unread = Unread(database, Log("test"), failed.append, lambda: None, 1000)
    error: Any = SimpleNamespace(pgcode="57014")
    for left in (500, 250, 125, 62, 31, 15, 7, 3, 1):
        unread.met(error, "", {}, unread.maximum)
        assert (unread.maximum, failed) == (left, [])
    unread.met(error, "", {}, unread.maximum)
    assert len(failed) == 1


def test_a_read_has_fewer_rows_while_they_take_long() -> None:
    unread = Unread(SimpleNamespace(), Log("test"), lambda _error: None, lambda: None, 1000)  # type: ignore[arg-type]
    takes = iter([LONG * 2] * 12 + [LONG / 2] * 3)
    maxima = []
    for took in takes:
        unread.succeeded(took)
        maxima.append(unread.maximum)
    assert maxima[:2] == [500, 250]
    assert maxima[11:] == [1, 2, 4, 8]
