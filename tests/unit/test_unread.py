"""Which errors of a read are one row's: those are looked for, every other one ends the session."""

from types import SimpleNamespace
from typing import Any

import pytest

from relay.errors import Unavailable
from relay.listening.unread import Unread
from relay.log import Log


@pytest.mark.parametrize(
    ("sqlstate", "of_a_row"),
    [
        ("22021", True),
        ("54000", True),
        ("XX001", True),
        (None, True),
        ("57014", False),
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
