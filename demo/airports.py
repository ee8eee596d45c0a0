"""The table of the demo: the airports of the world, with their real names, coordinates and time zones."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

TABLE = "public.airports"
LOAD_BATCH = 1000  # rows a transaction
# version and change are the referee's: version grows by one with each change of a row, and never begins again when its
# key is used a second time; change is a number of its own for every change, too large for a float.
CREATE = """
create table public.airports (
    icao       text primary key,
    iata       text,
    name       text not null,
    city       text,
    subd       text,
    country    text not null,
    elevation  numeric not null,
    lat        numeric not null,
    lon        numeric not null,
    tz         text not null,
    lid        text,
    version    bigint not null,
    change     bigint not null,
    changed_at timestamptz not null default clock_timestamp()
)"""
COLUMNS = (
    "icao", "iata", "name", "city", "subd", "country", "elevation", "lat", "lon", "tz", "lid",
    "version", "change", "changed_at",
)  # fmt: skip
_FROM_FILE = COLUMNS[:11]
INSERT = f"insert into public.airports ({', '.join(COLUMNS[:13])}) values %s"  # noqa: S608 - constants

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


def load(connection: Connection, rows: Sequence[Airport], first_change: int) -> Iterator[list[tuple[str, int]]]:
    """Insert rows, LOAD_BATCH a transaction; yields (icao, change) of each batch after its commit."""
    for start in range(0, len(rows), LOAD_BATCH):
        numbered = [(row, first_change + n) for n, row in enumerate(rows[start : start + LOAD_BATCH], start)]
        with connection, connection.cursor() as cursor:
            execute_values(cursor, INSERT, [(*row, 1, change) for row, change in numbered], page_size=LOAD_BATCH)
        yield [(str(row[0]), change) for row, change in numbered]


def fetch(connection: Connection) -> dict[str, dict[str, object]]:
    """The whole table, by its key: numeric as Decimal, timestamps with their offset."""
    with connection, connection.cursor() as cursor:
        cursor.execute(f"select {', '.join(COLUMNS)} from public.airports")  # noqa: S608 - constants
        return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in cursor.fetchall()}
