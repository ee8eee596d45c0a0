"""The triggers of a watched table, as text: readable, for a DBA who installs them by hand."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from relay.listening.polled.capture.condition import qualify
from relay.listening.polled.capture.mariadb.names import OPERATIONS, OWNER, identifier, qualified, text, trigger
from relay.listening.polled.capture.mariadb.table import Column, Table
from relay.listening.polled.capture.mariadb.values import image, json
from relay.listening.polled.capture.options import Options, chosen

# What a row's image can't be written for: the event then has its key only. 1301: larger than max_allowed_packet.
# 1406: see _NEVER. The others: a value that MariaDB itself can't write as text. Never a lock, a deadlock or a full
# disk, after which the transaction may be gone.
_FAULTS = "1264, 1292, 1300, 1301, 1366, 1406, 1690"
# ON DUPLICATE KEY does two things. With unique_checks and foreign_key_checks off (a dump that is loaded) InnoDB else
# locks an empty outbox as a whole until the commit. And where SET INSERT_ID forces a seq that is taken, no statement
# may fail: a text that is too long for its column raises 1406, and the handler writes the event with another seq.
_NEVER = "on duplicate key update op = repeat('-', 21)"
_PLAIN_KEYS = {"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "date", "bit", "year"}


class Trigger(NamedTuple):
    """One trigger."""

    operation: str
    name: str
    body: str


class Capture(NamedTuple):
    """What a table's triggers do."""

    table: Table
    options: Options
    topic: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...]


def capture(table: Table, options: Options) -> Capture:
    """Join a table and the options of its watch. Raises NotFound: a column that is not there, no key."""
    topic, columns, key = chosen(options, table.names, table.key, table.label)
    by_name = {column.name: column for column in table.columns}
    # A key may be a column that no event can have.
    keys = tuple(by_name[name] for name in key if name in by_name)
    return Capture(table, options, topic, tuple(by_name[name] for name in columns), keys)


def triggers(what: Capture) -> list[Trigger]:
    """The three triggers of a table."""
    bodies = {"insert": _inserted(what), "update": _updated(what), "delete": _deleted(what)}
    return [Trigger(operation, trigger(operation, what.table.name), bodies[operation]) for operation in OPERATIONS]


def statements(what: Capture, one: Trigger) -> list[str]:
    """CREATE OR REPLACE TRIGGER; on MySQL, which has no such word, two statements, under the table's lock."""
    name = qualified(what.table.schema, one.name)
    drop, create = ([f"drop trigger if exists {name}"], "create") if what.table.is_mysql else ([], "create or replace")
    said = (
        f"{create} definer = {OWNER} trigger {name}\n"
        f"after {one.operation} on {qualified(what.table.schema, what.table.name)} for each row\n{one.body}"
    )
    return [*drop, said]


def normal(body: str) -> str:
    """A trigger's body without the blanks that a client may have changed."""
    return " ".join(body.split())


def fingerprint(made: Sequence[Trigger]) -> str:
    """A hash of triggers; the same for the same text."""
    said = "\0".join(f"{one.name}\0{normal(one.body)}" for one in made)
    return hashlib.sha256(said.encode()).hexdigest()


def _inserted(what: Capture) -> str:
    return _body(what, ("new",), _guarded("is_in", _event(what, "insert", new="new"), what))


def _deleted(what: Capture) -> str:
    return _body(what, ("old",), _guarded("was_in", _event(what, "delete", old="old"), what))


def _updated(what: Capture) -> str:
    """A row that leaves the condition or its key is deleted; one that enters it or gets another key, inserted."""
    rows, indexed = ("old", "new"), _columns(what.table, what.table.indexed)
    update = _event(what, "update", old="old", new="new", only_if=_changed(what))
    delete, insert = _event(what, "delete", old="old"), _event(what, "insert", new="new")
    is_update = f"was_in and is_in and ({_same_key(what)})" if what.options.when else _same_key(what)
    others = _guarded("was_in", delete, what) + _guarded("is_in", insert, what)
    events = [f"if {is_update} then", *_indented(update), "else", *_indented(others), "end if;"]
    if what.options.when:
        return _body(what, rows, _standing(what, indexed, events))
    # The usual case by as few statements as can be: each costs a writer two microseconds and more.
    keys = [columns for columns in (what.key, _columns(what.table, what.table.key), indexed) if columns]
    stays = " and ".join(dict.fromkeys(_same(columns) for columns in keys))
    rest = others if len({*map(tuple, keys)}) == 1 else events
    lines = f"if {stays} and {_changed(what, keys)} then".split("\n")
    lines += _indented(_event(what, "update", old="old", new="new"))
    lines += [f"elseif not ({stays}) then", *_indented(_standing(what, indexed, rest)), "end if;"]
    return _body(what, rows, lines)


def _columns(table: Table, names: Sequence[str]) -> list[Column]:
    by_name = {column.name: column for column in table.columns}
    return [by_name[name] for name in names]


def _standing(what: Capture, indexed: Sequence[Column], events: list[str]) -> list[str]:
    """UPDATE IGNORE fires the trigger for rows, too, that it has left as they were: an index was in the way."""
    table = what.table
    key = _columns(table, table.key)
    if not key:
        return events
    source = f"select 1 from {qualified(table.schema, table.name)} x where "  # noqa: S608

    def found(row: str, columns: Sequence[Column]) -> str:
        place = " and ".join(f"x.{identifier(name)} = {row}.{identifier(name)}" for name in table.key)
        return f"exists ({source}{place} and binary {json(columns, 'x')} <=> binary {json(columns, row)})"

    lines = [f"if not ({_same(key)}) then", f"    set stands = not {found('old', key)};"]
    if indexed:
        lines += [f"elseif not ({_same(indexed)}) then", f"    set stands = {found('new', indexed)};"]
    return ["begin", "    declare stands bool default true;", *_indented([*lines, "end if;"]),
            "    if stands then", *_indented(_indented(events)), "    end if;", "end;"]  # fmt: skip


def _body(what: Capture, rows: Sequence[str], lines: Sequence[str]) -> str:
    asked = _asked(what, rows) if what.options.when else []
    return "\n".join(["begin", *_indented([*asked, *lines]), "end"])


_FLAGS = {"old": "was_in", "new": "is_in"}


def _asked(what: Capture, rows: Sequence[str]) -> list[str]:
    """Ask the condition. What can't be said of a row, since it is null or fails, counts as false."""
    lines = [f"declare {', '.join(_FLAGS[row] for row in rows)} bool default false;", "begin"]
    lines += ["    declare continue handler for sqlexception begin end;"]
    for row in rows:
        said = qualify(
            what.options.when, what.table.names, lambda name, row=row: f"{row}.{identifier(name)}",  # type: ignore[misc]
            text_in_double_quotes=True,
        )  # fmt: skip
        lines.append(f"    set {_FLAGS[row]} = ({said}) is true;")
    return [*lines, "end;"]


def _guarded(flag: str, lines: list[str], what: Capture) -> list[str]:
    return [f"if {flag} then", *_indented(lines), "end if;"] if what.options.when else lines


def _event(what: Capture, operation: str, *, old: str = "", new: str = "", only_if: str = "") -> list[str]:
    """Write one event; without its images where they can't be written."""
    first = [text(what.topic), text(what.table.label), text(operation), json(what.key, new or old)]
    fallback = _write(what, [*first, "null", "null", "1"])
    images = [image(what.columns, row) if row else "null" for row in (old, new)]
    said = _write(what, [*first, *images, "0"])
    if only_if:
        said = [*f"if {only_if} then".split("\n"), *_indented(said), "end if;"]
    return [
        "begin",
        f"    declare exit handler for {_FAULTS}",
        *_indented(_indented(fallback)),
        *_indented(said),
        "end;",
    ]


def _write(what: Capture, values: Sequence[str]) -> list[str]:
    """Under LOCK TABLES MariaDB lets one routine write to the outbox, and not three triggers: error 1442."""
    lines = _indented(",\n".join(values).split("\n"))
    if what.options.lock_tables:
        return ["call relay.write_event(", *lines, ");"]
    columns = "topic, tbl, op, `key`, old_image, new_image, too_large"
    return [f"insert into relay.outbox ({columns})", "values (", *lines, f") {_NEVER};"]


def _changed(what: Capture, stays: Sequence[Sequence[Column]] = ()) -> str:
    """Whether a column of the events is another one, whatever its collation and the session's time zone find equal.

    Asked of the columns, since two images more would cost the writer a fifth.

    Args:
        stays: of these it is known by `_same` that they are as they were.
    """
    known = {column.name for columns in stays if _are_plain(columns) for column in columns}
    asked = [_equal(column) for column in what.columns if column.name not in known]
    return "not (" + "\n    and ".join(asked) + ")" if asked else "false"


def _equal(column: Column) -> str:
    new, old = (f"{row}.{identifier(column.name)}" for row in ("new", "old"))
    if column.charset is not None or column.kind == "geometry":
        return f"binary {new} <=> binary {old}"
    if column.kind == "json":  # MySQL's own type, for which 1 equals 1.0
        return f"cast({new} as char) <=> cast({old} as char)"
    if column.kind == "timestamp":  # zero has no unix_timestamp
        return f"{new} <=> {old} and unix_timestamp({new}) <=> unix_timestamp({old})"
    return f"{new} <=> {old}"


def _same_key(what: Capture) -> str:
    return _same(what.key)


def _same(columns: Sequence[Column]) -> str:
    """Whether columns are as they were."""
    if _are_plain(columns):
        return " and ".join(f"new.{identifier(c.name)} <=> old.{identifier(c.name)}" for c in columns)
    return f"binary {json(columns, 'old')} <=> binary {json(columns, 'new')}"


def _are_plain(columns: Sequence[Column]) -> bool:
    return all(column.kind in _PLAIN_KEYS for column in columns)


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
