"""The table of the demo: the airports of the world, with their real names, coordinates and time zones."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from demo.sources import Connection, Source

LOAD_BATCH = 1000  # rows a transaction
# version and change are the referee's: version grows by one with each change of a row, and never begins again when its
# key is used a second time; change is a number of its own for every change, too large for a float.
_CREATE = """
create table {table} (
    icao       {key} primary key,
    iata       {text},
    name       {text} not null,
    city       {text},
    subd       {text},
    country    {text} not null,
    elevation  {number} not null,
    lat        {number} not null,
    lon        {number} not null,
    tz         {text} not null,
    lid        {text},
    version    bigint not null,
    "change"   bigint not null,
    changed_at {moment} not null default current_timestamp(6)
)"""
COLUMNS = (
    "icao", "iata", "name", "city", "subd", "country", "elevation", "lat", "lon", "tz", "lid",
    "version", "change", "changed_at",
)  # fmt: skip
_FROM_FILE = COLUMNS[:11]
_INSERTED = COLUMNS[:13]

Batch = list[tuple[str, int]]
Airport = tuple[str | None, ...]
"""The values of the file's columns as text, as they stand there: no float between file and table."""


def read(limit: int | None = None) -> list[Airport]:
    """The airports of the package `airportsdata`, in its order; with a `limit`, evenly chosen from all of it."""
    # The file itself: the package's own reader makes floats of the coordinates.
    spec = importlib.util.find_spec("airportsdata")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package airportsdata is missing: run  make .venv/ready")
    path = Path(spec.submodule_search_locations[0]) / "airports.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [tuple(row[name] or None for name in _FROM_FILE) for row in csv.DictReader(file)]
    return rows if limit is None or limit >= len(rows) else [rows[n * len(rows) // limit] for n in range(limit)]


def create(connection: Connection, source: Source) -> None:
    """Make the table, as the application."""
    with connection.cursor() as cursor:
        cursor.execute(_CREATE.format(table=source.table, **source.types))


def insert(cursor: Any, source: Source, rows: Sequence[Sequence[object]]) -> None:
    """Insert rows of the file's columns, version and change, by one statement."""
    marks = ", ".join([f"({', '.join(['%s'] * len(_INSERTED))})"] * len(rows))
    values = [value for row in rows for value in row]
    cursor.execute(f"insert into {source.table} ({_names(_INSERTED)}) values {marks}", values)  # noqa: S608 - constants


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)  # "change" is a word of MariaDB's


def load(connection: Connection, source: Source, rows: Sequence[Airport], first_change: int) -> Iterator[Batch]:
    """Insert rows, LOAD_BATCH a transaction; yields (icao, change) of each batch after its commit."""
    with connection.cursor() as cursor:
        for start in range(0, len(rows), LOAD_BATCH):
            numbered = [(row, first_change + n) for n, row in enumerate(rows[start : start + LOAD_BATCH], start)]
            insert(cursor, source, [(*row, 1, change) for row, change in numbered])
            yield [(str(row[0]), change) for row, change in numbered]


def fetch(connection: Connection, source: Source) -> dict[str, dict[str, object]]:
    """The whole table, by its key: numbers as Decimal, moments with their offset."""
    with connection.cursor() as cursor:
        cursor.execute(f"select {_names(COLUMNS)} from {source.table}")  # noqa: S608 - constants
        return {row[0]: dict(zip(COLUMNS, map(_aware, row), strict=True)) for row in cursor.fetchall()}


def _aware(value: object) -> object:
    """PyMySQL knows nothing of the session's time zone, which is UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
