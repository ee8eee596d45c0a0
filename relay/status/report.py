"""What is to be seen at a glance, whichever half it is of: facts, each with how bad it is, and tables. Pure."""

import dataclasses
from collections.abc import Iterator, Sequence

from relay.findings import Level

_MARKS = {Level.OK: "  ", Level.WARNING: "! ", Level.FAILED: "!!"}


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """One line.

    Args:
        name: what it is about, in a word or two.
        text: how it is.
        level: how bad that is.
        remedy: what to do about it.
    """

    name: str
    text: str
    level: Level = Level.OK
    remedy: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Things of one kind.

    Args:
        name: what they are.
        columns: their headings.
        rows: the first of them; as many texts each as there are columns.
        left_out: how many more there are.
        remedy: the command that does something about them.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left_out: int = 0
    remedy: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One screen.

    Args:
        title: of whom.
        state: in a word or two: at work, standby, waiting.
    """

    title: str
    state: str
    facts: Sequence[Fact]
    tables: Sequence[Table] = ()

    @property
    def level(self) -> Level:
        """As bad as its worst fact."""
        return max((fact.level for fact in self.facts), key=lambda level: level.nagios, default=Level.OK)


def lines(report: Report) -> Iterator[str]:
    """For a terminal."""
    yield f"{report.title}: {report.state}"
    width = max((len(fact.name) for fact in report.facts), default=0)
    for fact in report.facts:
        remedy = f" -> {fact.remedy}" if fact.remedy else ""
        yield f"{_MARKS[fact.level]} {fact.name:{width}}  {fact.text}{remedy}"
    for table in report.tables:
        if table.rows:
            yield ""
            yield from _rows(table)


def _rows(table: Table) -> Iterator[str]:
    yield table.name
    whole = [table.columns, *table.rows]
    widths = [max(len(row[at]) for row in whole) for at in range(len(table.columns))]
    for row in whole:
        yield "   " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    if table.left_out:
        yield f"   and {table.left_out} more"
    if table.remedy:
        yield f"   -> {table.remedy}"
