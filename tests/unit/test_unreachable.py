"""What libpq says as it connects is sorted: the error that a person reads. (With real servers: tests/faults/.)"""

from __future__ import annotations

import pytest

from relay.errors import ConfigError
from relay.listening.unreachable import of_postgres
from relay.values import Dsn

HERE = 'for host "10.0.0.1", user "u", database "d", no encryption'


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (f"FATAL:  no pg_hba.conf entry {HERE}", "add a line for this host"),
        (f"FATAL:  pg_hba.conf rejects connection {HERE}", "take away or change the line with reject"),
    ],
)
def test_what_pg_hba_conf_forbids_needs_a_person(said: str, remedy: str) -> None:
    error = of_postgres(Dsn("postgresql://u:p@db/d"), said)
    assert isinstance(error, ConfigError)
    assert remedy in str(error)
