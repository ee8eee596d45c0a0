"""Each test of the contract runs on every source: PostgreSQL, MariaDB, SQLite, MySQL (MYSQL_SUITE=sid); or on yours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.script import Script
from dev.vhost import Vhost
from tests.contract.sources import OfMariaDB, OfMySQL, OfPostgres, OfSQLite, OfUrl, Relayed, Source

YOURS = os.environ.get("RELAY_TEST_SOURCE", "")
MYSQL = ["mysql"] if os.environ.get("MYSQL_SUITE") else []
NAMES = ["yours"] if YOURS else ["postgres", "mariadb", "sqlite", *MYSQL]


@pytest.fixture(params=NAMES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """A database with an empty outbox."""
    if request.param == "postgres":
        return OfPostgres(request.getfixturevalue("database"))
    if request.param == "mariadb":
        return OfMariaDB(request.getfixturevalue("mariadb"))
    if request.param == "mysql":
        return OfMySQL(request.getfixturevalue("mysql"))
    return OfSQLite(tmp_path) if request.param == "sqlite" else OfUrl(YOURS)


@pytest.fixture
def relayed(script: Callable[..., Script], source: Source, vhost: Vhost) -> Relayed:
    """listen.py on it, not started; the queue `out` gets everything."""
    made = Relayed(script, source, vhost)
    made.bind()
    return made
