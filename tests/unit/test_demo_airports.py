"""The demo's input is real and complete, and its digits have never been floats."""

from __future__ import annotations

from demo import airports


def test_all_airports_are_read_as_text() -> None:
    rows = airports.read()
    assert len(rows) > 28_000
    assert len({row[0] for row in rows}) == len(rows)
    zurich = next(row for row in rows if row[0] == "LSZH")
    assert zurich[2:7] == ("Zurich Airport", "Zurich", "Zurich", "CH", "1416")
    assert zurich[7:10] == ("47.4647", "8.54917", "Europe/Zurich")
    assert all(value is None or (isinstance(value, str) and value) for row in rows for value in row)


def test_a_part_is_taken_from_the_whole_file() -> None:
    rows = airports.read(100)
    assert len(rows) == 100
    assert len({row[5] for row in rows}) > 10  # countries
