"""The triggers of a watched table of SQLite, as text."""

import hashlib
import json as names
from collections.abc import Sequence
from typing import NamedTuple

from relay.errors import RelayError
from relay.listening.polled.capture.condition import qualify
from relay.listening.polled.capture.options import Options, chosen
from relay.listening.polled.capture.sqlite.table import Table, Unique, identifier, text

LARGEST = 150_000_000  # bytes of a row; as JSON it can take six times as many, and SQLite's limit is 1e9
_TERMS = 50  # of a concatenation, in brackets: an expression may be 1,000 deep
_RAISES = ("abs", "json", "raise", "load_extension", "zeroblob", "randomblob", "->")


class Trigger(NamedTuple):
    """One trigger."""

    name: str
    sql: str


class Capture(NamedTuple):
    """What a table's triggers do."""

    table: Table
    options: Options
    topic: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


def capture(table: Table, options: Options) -> Capture:
    """Join a table and the options of its watch.

    Raises:
        NotFound: a column that is not there, no key.
        RelayError: a condition that could make a writer's statement fail.
    """
    topic, columns, key = chosen(options, table.columns, table.key, table.name)
    if found := [one for one in _RAISES if one in options.when.lower()]:
        remedy = "SQLite has no way to go on after an error in a trigger: leave it out"
        raise RelayError(f"--when has {found[0]}, which can fail for a row, and the writer's statement with it", remedy)
    return Capture(table, options, topic, columns, key)


def triggers(what: Capture) -> list[Trigger]:
    """The five triggers of a table; they must be its newest."""
    table, name = what.table, what.table.name
    unique = bool(table.uniques)
    moved = f"old.{table.rowid} <> new.{table.rowid}" if table.rowid else "1"
    made = []
    if unique:
        made += [
            ("replace", "before insert", [_forget(what), *_about_to_go(what, "")]),
            # Not "of" the indexes' columns: a generated one, a partial index's condition or the rowid may change, too.
            ("displace", "before update", [_forget(what), *_about_to_go(what, "old")]),
        ]
    inserted = _event(what, "insert", new="new", where=condition(what, "new"))
    deleted = _event(what, "delete", old="old", where=condition(what, "old"))
    made += [
        ("insert", "after insert", [*([_gone(what, "1")] if unique else []), inserted]),
        ("update", "after update", [*([_gone(what, moved)] if unique else []), *_updated(what)]),
        ("delete", "after delete", [*([_told(what)] if unique else []), deleted]),
    ]
    return [
        Trigger(
            f"relay_{operation}_{name}",
            f"create trigger {identifier(f'relay_{operation}_{name}')} {when} on {identifier(name)}\nbegin\n"
            + "\n".join(f"    {line}" for one in statements for line in one.split("\n")) + "\nend",
        )
        for operation, when, statements in made
    ]  # fmt: skip


def fingerprint(made: Sequence[Trigger]) -> str:
    """A hash of triggers."""
    return hashlib.sha256("\0".join(one.sql for one in made).encode()).hexdigest()


def value(column: str, row: str) -> str:
    """A value as JSON text. Each value has a type of its own; JSON's functions fail for a BLOB and cut a double short.

    The empty text is there since a value that json() made would else count as JSON here.
    """
    name = f"{row}.{identifier(column)}"
    short = f"abs({name}) between 1e-9 and 1e15 and cast(printf('%!.15g', {name}) as real) = {name}"
    return (
        f"case typeof({name}) when 'text' then json_quote({name} || '') when 'null' then 'null' "
        f"when 'blob' then '\"\\\\x' || lower(hex({name})) || '\"' when 'integer' then {name} || '' "
        f"else case {name} when 9e999 then '\"Infinity\"' when -9e999 then '\"-Infinity\"' "
        f"else printf(iif({short}, '%!.15g', '%!.20g'), {name}) end end"
    )


def json(columns: Sequence[str], row: str) -> str:
    """The SQL of a row as a JSON object. JSON_OBJECT takes 63 columns at most."""
    said = [
        text(f"{', ' if number else '{'}{names.dumps(column, ensure_ascii=False)}: ") + f" || {value(column, row)}"
        for number, column in enumerate(columns)
    ]
    parts = [" ||\n    ".join(said[at : at + _TERMS]) for at in range(0, len(said), _TERMS)]
    return "(" + ") || (".join(parts) + ") || '}'"


def image(what: Capture, row: str) -> str:
    """The SQL of a row's image; null where it is too large."""
    size = " + ".join(f"ifnull(length(cast({row}.{identifier(column)} as blob)), 0)" for column in what.columns)
    return f"case when {size} <= {LARGEST} then\n    {json(what.columns, row)} end"


def condition(what: Capture, row: str) -> str:
    """The SQL of the condition of the watch, asked of a row."""
    if not what.options.when:
        return "1"
    said = qualify(
        what.options.when, what.table.columns, lambda name: f"{row}.{identifier(name)}", text_in_double_quotes=False
    )
    return f"(({said}) is true)"


def _event(what: Capture, operation: str, *, old: str = "", new: str = "", where: str = "1") -> str:
    was, now = (image(what, row) if row else "null" for row in (old, new))
    large = " or ".join(f"{one} is null" for one, row in (("o", old), ("n", new)) if row)
    if old and new:
        where += f" and (o is not n or {large})"
    return (
        "insert into relay_outbox (topic, tbl, op, key, old_image, new_image, too_large)\n"
        f"select {text(what.topic)}, {text(what.table.name)}, {text(operation)}, k,\n"
        f"    iif({large}, null, o), iif({large}, null, n), {large}\n"
        f"from (select {json(what.key, new or old)} as k,\n    {was} as o,\n    {now} as n limit 1)\n"
        f"where {where};"
    )


def _updated(what: Capture) -> list[str]:
    was, is_ = condition(what, "old"), condition(what, "new")
    same = f"{json(what.key, 'old')} is {json(what.key, 'new')}"
    return [
        _event(what, "update", old="old", new="new", where=f"{was} and {is_} and {same}"),
        _event(what, "delete", old="old", where=f"{was} and not ({is_} and {same})"),
        _event(what, "insert", new="new", where=f"{is_} and not ({was} and {same})"),
    ]


def _forget(what: Capture) -> str:
    return f"delete from relay_replaced where tbl = {text(what.table.name)};"  # noqa: S608


def _about_to_go(what: Capture, except_for: str) -> list[str]:
    """Note the rows that stand in the way of the new one: REPLACE will delete them."""
    table = what.table
    same = [_same(one) for one in table.uniques]
    if table.rowid:
        same.append(f"t.{table.rowid} = new.{table.rowid}")
    ways = " or ".join(f"({one})" for one in same)
    mine = "0"
    if except_for and table.rowid:
        mine = f"t.{table.rowid} = old.{table.rowid}"
    elif except_for:
        mine = " and ".join(f"t.{identifier(column)} = old.{identifier(column)}" for column in table.key)
    row = f"t.{table.rowid}" if table.rowid else "null"
    return [
        "insert into relay_replaced (tbl, row, key, image)\n"  # noqa: ISC004
        f"select {text(table.name)}, {row}, {json(what.key, 't')},\n    {image(what, 't')}\n"
        f"from {identifier(table.name)} t where ({ways}) and not ({mine}) and {condition(what, 't')};"
    ]


def _same(one: Unique) -> str:
    return " and ".join(
        f"t.{identifier(column)} = new.{identifier(column)} collate {identifier(collation)}"
        for column, collation in one.columns
    )


def _gone(what: Capture, moved: str) -> str:
    """Tell of those that are gone; with recursive_triggers on, the trigger on DELETE has told of them.

    Those that a statement noted which then replaced nothing (OR IGNORE) are there still.

    Args:
        what: of which table.
        moved: SQL: the new row has taken a rowid that was not its own.
    """
    table = what.table
    gone = "1"
    if table.rowid:
        there = f"select 1 from {identifier(table.name)} t where t.{table.rowid} = r.row"  # noqa: S608
        gone = f"(({moved} and r.row = new.{table.rowid}) or not exists ({there}))"
    return (
        "insert into relay_outbox (topic, tbl, op, key, old_image, too_large)\n"
        f"select {text(what.topic)}, r.tbl, 'delete', r.key, r.image, r.image is null from relay_replaced r\n"
        f"where r.tbl = {text(table.name)} and {gone};\n{_forget(what)}"
    )


def _told(what: Capture) -> str:
    return f"delete from relay_replaced where tbl = {text(what.table.name)} and key = {json(what.key, 'old')};"  # noqa: S608
