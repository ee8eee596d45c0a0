"""A table's columns as people give them: `id int, name text`, names, or the lines of CREATE TABLE. Pure."""

import dataclasses
import enum
import re
from collections.abc import Iterator, Sequence

from relay.errors import ConfigError

COLUMNS_MAX = 1600  # of a table, in PostgreSQL

WANTED = "write --columns 'id int primary key, name text not null, ...', as CREATE TABLE has it, or names alone"


class Kind(enum.Enum):
    """What an event has in it for a column; the value is how people call that."""

    TEXT = "text"
    WHOLE = "a whole number"
    NUMBER = "a number with decimals"
    SWITCH = "a boolean"
    DAY = "a date"
    MOMENT = "a date and time"
    BYTES = "bytea"
    JSON = "JSON"
    LIST = "an array"
    OTHER = "of another type"
    UNKNOWN = "of a type that was not given"


_KINDS: tuple[tuple[str, Kind], ...] = (
    ("smallint integer int bigint int2 int4 int8 smallserial serial bigserial serial2 serial4 serial8 oid", Kind.WHOLE),
    ("numeric decimal real float float4 float8 double money", Kind.NUMBER),
    ("boolean bool", Kind.SWITCH),
    ("date", Kind.DAY),
    ("timestamp timestamptz", Kind.MOMENT),
    ("bytea", Kind.BYTES),
    ("json jsonb hstore", Kind.JSON),
    ("text varchar char character bpchar citext name uuid", Kind.TEXT),
)
_KIND_OF = {word: kind for words, kind in _KINDS for word in words.split()}
_TOKEN = re.compile(r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|--[^\n]*|[(),;\n\"']|[^(),;\n\"'-]+|-")
_NAME = re.compile(r"\s*(?:\"((?:[^\"]|\"\")+)\"|([^\s\"',()]+))(?:\s+(.*))?", re.DOTALL)
_PLACE = re.compile(r"(?:\"(?:[^\"]|\"\")+\"|[^\s\".(]+)(?:\.(?:\"(?:[^\"]|\"\")+\"|[^\s\".(]+))?")
# What ends a column's type, and what the table's own lines begin with. PostgreSQL reserves these words.
_CONSTRAINT = re.compile(
    r"\b(not\s+null|null|primary\s+key|default|references|unique|generated|collate|check|constraint)\b", re.IGNORECASE
)
_OF_TABLE = re.compile(r"\s*(primary\s+key|constraint|foreign\s+key|unique|check|exclude|like)\b", re.IGNORECASE)
_KEY = re.compile(r"\bprimary\s+key\s*\(([^()]*)\)", re.IGNORECASE)
_LINK = re.compile(r"\bforeign\s+key\s*\(([^(),]*)\)\s*references\s+(.*)", re.IGNORECASE | re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        type: as it was written; empty = not given.
        scale: decimals of a numeric(p, s); None = as many as there are.
        nullable: may it be NULL? None = not told.
        key: is it of the primary key?
        references: the table whose rows it names, as it was written; empty = none that is told.
    """

    name: str
    type: str = ""
    kind: Kind = Kind.UNKNOWN
    scale: int | None = None
    nullable: bool | None = None
    key: bool = False
    references: str = ""


def parse(text: str) -> list[Column]:
    """Read columns. Raises ConfigError: what can't be read, and what to write."""
    if not text.isprintable() and not text.replace("\n", "").replace("\t", "").replace("\r", "").isprintable():
        raise _wrong("has characters that can't be read")
    found: list[Column] = []
    keys: set[str] = set()
    links: dict[str, str] = {}
    for item in _items(text):
        if _OF_TABLE.match(item):
            if key := _KEY.search(item):
                keys |= {_unquoted(one) for one in key[1].split(",")}
            if link := _LINK.search(item):
                links[_unquoted(link[1])] = _place(link[2])
            continue
        found.append(_column(item))
    if not found:
        raise _wrong("names no column")
    if len(found) > COLUMNS_MAX:
        raise _wrong(f"names {len(found)} columns: no table has so many")
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise _wrong(f"names {twice} twice")
    for one in sorted((keys | set(links)) - set(names)):
        raise _wrong(f"has a key of {one}, which is no column")
    return [
        dataclasses.replace(
            one,
            key=one.key or one.name in keys,
            nullable=False if one.name in keys else one.nullable,
            references=links.get(one.name, one.references),
        )
        for one in found
    ]


def _wrong(what: str) -> ConfigError:
    return ConfigError((f"--columns {what}", WANTED))


def _items(text: str) -> Iterator[str]:
    """What stands between commas, or, where there are none, on a line; comments left out."""
    pieces = [one for one in _TOKEN.findall(text) if not one.startswith("--")]
    if any(one in ('"', "'") for one in pieces):
        raise _wrong("has a quotation mark without its end")
    depth, found = 0, [""]
    commas = _has_commas(pieces)
    for piece in pieces:
        depth += (piece == "(") - (piece == ")")
        if depth < 0:
            break
        if depth == 0 and (piece == ";" or piece == ("," if commas else "\n")):
            found.append("")
        else:
            found[-1] += " " if piece == "\n" else piece
    if depth:
        raise _wrong("has a bracket without its other half")
    yield from (item for item in found if item.strip())


def _has_commas(pieces: Sequence[str]) -> bool:
    depth = 0
    for piece in pieces:
        depth += (piece == "(") - (piece == ")")
        if piece == "," and depth == 0:
            return True
    return False


def _column(item: str) -> Column:
    match = _NAME.fullmatch(item.rstrip())
    if match is None:
        raise _wrong(f"has {item.strip()[:80]!r}, which is no column")
    name = match[1].replace('""', '"') if match[1] else match[2].lower()  # as PostgreSQL reads it
    rest = (match[3] or "").strip()
    first = _CONSTRAINT.search(rest)
    told = " ".join((rest[: first.start()] if first else rest).split())
    constraints = rest[first.start() :] if first else ""
    key = re.search(r"\bprimary\s+key\b", constraints, re.IGNORECASE) is not None
    never = key or re.search(r"\bnot\s+null\b", constraints, re.IGNORECASE) is not None
    link = re.search(r"\breferences\s+(.*)", constraints, re.IGNORECASE | re.DOTALL)
    kind, scale = _kind(told)
    nullable = None if not rest else not (never or "serial" in told.lower())
    return Column(name, told, kind, scale, nullable, key, _place(link[1]) if link else "")


def _kind(told: str) -> tuple[Kind, int | None]:
    """Of a type, what an event has, and its decimals."""
    lower = told.lower().replace('"', "").removeprefix("pg_catalog.")
    if not lower:
        return Kind.UNKNOWN, None
    if lower.endswith(("]", " array")) or lower.startswith("_"):
        return Kind.LIST, None
    word = re.match(r"[a-z0-9_]*", lower)
    kind = _KIND_OF.get(word[0] if word else "", Kind.OTHER)
    digits = re.search(r"\(\s*\d+\s*(?:,\s*(-?\d+)\s*)?\)", lower)
    if kind is Kind.NUMBER and digits:
        scale = int(digits[1] or 0)
        return (Kind.NUMBER, scale) if scale > 0 else (Kind.WHOLE, None)
    return kind, None


def table_name(text: str) -> str:
    """A table's name as events have it: shop.Odd table, of shop."Odd table" as SQL writes it; empty = that is none."""
    return text if '"' not in text else _place(text) if _PLACE.fullmatch(text) else ""


def _place(text: str) -> str:
    """The name of a table, `customers` or `public.customers`, without quotation marks."""
    match = _PLACE.match(text.strip())
    return ".".join(_unquoted(one) for one in re.findall(r"\"(?:[^\"]|\"\")+\"|[^\".]+", match[0])) if match else ""


def _unquoted(name: str) -> str:
    name = name.strip()
    quoted = len(name) > 1 and name.startswith('"') and name.endswith('"')
    return name[1:-1].replace('""', '"') if quoted else name.lower()
