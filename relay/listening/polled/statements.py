"""The statements on a polled outbox, written by SQLAlchemy Core for each kind of database.

Compiled once for each size of their lists: a driver gets their text and values, for SQLAlchemy's own way costs 3 to 5
us a row. Lists are filled up to a size by repeating their last element.
"""

import bisect
import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from relay.database_url import MYSQL, SQLITE
from relay.listening.event import Row
from relay.listening.outbox_read import BESIDE, NAMED
from relay.listening.polled.expressions import WRITTEN, Element, Expressions, Sizes, value
from relay.listening.polled.outbox_table import OWN, OutboxTable

_PLAIN = re.compile(r"[0-9A-Za-z-]+")
CHUNK = 900  # rows of one DELETE: Oracle takes lists of 1,000, SQLite 32,766 values
HELD, HEAVY = 1, 2  # the state of a row that comes without its body; null = it has one
BODIES = ("old_image", "new_image", "body", "headers")
_SIZES = (0, 1, 2, 4, 10, 30, 100, 300, CHUNK, 1000)


@dataclasses.dataclass(frozen=True)
class Statement:
    """A text for a driver, and what it takes with it.

    Args:
        text: with the driver's own marks for values.
        order: the names of its values in their order; None = the driver takes them by name.
        fixed: values that are always the same.
    """

    text: str
    order: tuple[str, ...] | None
    fixed: Mapping[str, Any]

    def values(self, given: Mapping[str, Any]) -> Any:
        """The values as the driver takes them."""
        found = {**self.fixed, **given}
        return found if self.order is None else tuple([found[name] for name in self.order])


def padded(name: str, items: Sequence[Any], minimum: int = 0) -> tuple[int, dict[str, Any]]:
    """A list as values `name0`, `name1`, ...: its size, one of those that there are, and the values."""
    size = max(minimum, _SIZES[bisect.bisect_left(_SIZES, len(items))])
    more = [items[-1]] * (size - len(items)) if items else []
    return size, {f"{name}{number}": item for number, item in enumerate([*items, *more])}


class Statements(Expressions):
    """Of one table.

    Args:
        kind: of PolledUrl.
        dialect: SQLAlchemy's.
        table: whose rows.
    """

    def __init__(self, kind: str, dialect: sa.Dialect, table: OutboxTable) -> None:
        super().__init__(kind, table)
        self._dialect = dialect
        self.upto = functools.cache(self._upto)
        self.read = functools.cache(self._read)
        self.late = functools.cache(self._late)
        self.probe = functools.cache(self._probe)
        self.delete = functools.cache(self._delete)
        self.left = functools.cache(self._left)

    # -- what is read ------------------------------------------------------------------------------------------

    def _upto(self, sizes: Sizes) -> Statement:
        """How many rows there are to be read, how many of them fit, the last of these, and is one of them heavy?"""
        heavy = sa.case((self._heavy, 1), else_=0)
        inner = self._hinted(sa.select(self._seq.label("seq"), self._size.label("size"), heavy.label("heavy")))
        inner = inner.where(self._wanted(sizes)).order_by(self._seq).limit(value("most"))
        rows = inner.subquery("i")
        # A heavy row comes without its body, and takes no room.
        room = sa.case((rows.c.heavy == 1, 0), else_=rows.c.size)
        before = sa.func.sum(room).over(order_by=rows.c.seq) - room
        found = sa.select(rows.c.seq, rows.c.heavy, before.label("before")).subquery("m")
        fits = found.c.before < value("bytes")
        counts = sa.func.count(), sa.func.sum(sa.case((fits, 1), else_=0))
        last = sa.func.max(sa.case((fits, found.c.seq)))
        return self._compiled(sa.select(*counts, last, sa.func.max(found.c.heavy)).select_from(found))

    def _read(self, sizes: Sizes) -> Statement:
        """The rows themselves, up to the last one that fits, in order; held and heavy ones without their bodies."""
        held = self._held(sizes)
        without = [] if held is None else [(held, HELD)]
        if sizes.has_heavy:
            without.append((self._heavy, HEAVY))
        made = self._hinted(sa.select(*self._columns(without)))
        return self._compiled(
            made.where(self._wanted(sizes), self._seq <= value("upto")).order_by(self._seq).limit(
                value("most")
            )
        )  # fmt: skip

    def _late(self, ranges: int) -> Statement:
        """The numbers of the rows in these ranges, the highest first."""
        made = self._hinted(sa.select(self._seq)).where(self._waiting(self._between(ranges)))
        return self._compiled(made.order_by(self._seq.desc()).limit(value("most")))

    @functools.cached_property
    def skip(self) -> Statement:
        """What says of the rows above a number whether they wait: number, is it marked, table, topic without one, key.

        A text that is longer than those that are remembered comes as null.
        """
        topic = sa.case((self._of["tbl"].is_(None), self._of["topic"]))
        said = [sa.case((self._octets(text) <= NAMED, text)) for text in (self._of["tbl"], topic, self._key)]
        marked = sa.case((self._of["error"].is_(None), 0), else_=1)
        made = self._hinted(sa.select(self._seq, marked, *said)).where(self._waiting(self._seq > value("high")))
        return self._compiled(made.order_by(self._seq).limit(value("most")))

    def _columns(self, without: list[tuple[Element, int]]) -> list[Any]:
        """As message.Messages takes them; the last ones of a firm's queue are all of its columns.

        Args:
            without: which rows come without their bodies, and the state that tells it. Few columns, and null where
                nothing is to be said: a driver written in Python takes a microsecond for each other one.
        """
        said: dict[str, Element] = dict(self._of)
        said["at"] = self._as_text(self._of["at"])
        said["too_large"] = sa.func.nullif(self._of["too_large"], 0)
        state: Element = sa.null()
        if without:
            state = sa.case(*without)
            nothing = sa.or_(*[which for which, _state in without])
            said |= {name: sa.case((nothing, None), else_=self._of[name]) for name in BODIES}
            said |= {name: sa.func.substr(self._of[name], 1, BESIDE) for name in ("topic", "tbl", "op", "key")}
        whole: list[Any] = [] if self._mapping.has_images else [sa.literal_column("o.*")]
        return [*[said[name].label(name) for name in OWN], state.label("state"), *whole]

    def _probe(self, sizes: Sizes, *, of_table: bool) -> Statement:
        """The oldest event of a group that waits."""
        where = [self._seq >= value("low"), self._of["error"].is_(None)]
        if of_table:
            where.append(self._of["tbl"] == value("group"))
        else:
            where += [self._of["tbl"].is_(None), self._of["topic"] == value("group")]
        if (held := self._held(Sizes(keys=sizes.keys))) is not None:
            where.append(sa.not_(held))
        if self._mapping.pending:
            where.append(sa.literal_column(f"({self._mapping.pending})"))
        made = self._hinted(sa.select(*self._columns([(self._heavy, HEAVY)])))
        return self._compiled(made.where(*where).order_by(self._seq).limit(1))

    # -- what is done to them ----------------------------------------------------------------------------------

    def _these(self, size: int) -> Element:
        """Those that were confirmed: by number, and by identity where there is one. An id is nobody else's.

        Args:
            size: of the lists; WRITTEN: they are written into the text.
        """
        found: Element = self._in(self._seq, "seq", size)
        if "id" in self._mapping.columns:
            found = sa.and_(found, self._in(self._of["id"], "id", size))
        return found

    def deletion(self, batch: Mapping[int, Row], turn: int) -> tuple[str, Any]:
        """Delete, or mark, these rows: the text, and its values.

        A driver that writes values into the text itself, as PyMySQL, takes four times as long over a long list.
        """
        ids = [row.id for row in batch.values()]
        if self._kind == MYSQL and _PLAIN.fullmatch("".join(ids)):
            text = self.delete(WRITTEN).text.replace("%%", "%")  # without values a driver changes nothing
            text = text.replace("@seqs", ",".join(map(str, batch)))
            return text.replace("@ids", "'" + "','".join(ids) + "'"), None
        size, given = padded("seq", list(batch))
        statement = self.delete(size)
        return statement.text, statement.values(given | padded("id", ids)[1] | {"turn": turn})

    @property
    def _turn(self) -> Element:
        listener = sa.table("relay_listener", sa.column("turn"))
        return sa.select(listener.c.turn).scalar_subquery() == value("turn")

    def _delete(self, size: int) -> Statement:
        """Delete, or mark. By the primary key: a scan would wait for strangers' rows (measured)."""
        hint = ("FORCE INDEX (PRIMARY)", self._table, "mysql")
        these = self._these(size)
        if self._kind == SQLITE and self._mapping.is_own:  # it has no lock of a session: only who has the turn deletes
            these = sa.and_(these, self._turn)
        if not self._mapping.done:
            gone = sa.delete(self._table).where(these).with_hint(*hint)
            return self._compiled(gone.prefix_with("o", dialect="mysql"))
        marked = sa.update(self._table).where(these).with_hint(*hint)
        return self._compiled(marked.values({self._seq.name: self._seq}), self._mapping.done)

    def _left(self, size: int) -> Statement:
        where = self._these(size)
        if self._mapping.done:
            where = sa.and_(where, sa.literal_column(f"({self._mapping.pending})"))
        return self._compiled(self._hinted(sa.select(sa.func.count()).select_from(self._table)).where(where))

    @functools.cached_property
    def refuse(self) -> Statement | None:
        """Mark an event that can't be published; None = the table has no place for it."""
        if "error" not in self._mapping.columns:
            return None
        error = self._table.c[self._mapping.columns["error"]]
        made = sa.update(self._table).where(self._seq == value("seq0"))
        if "id" in self._mapping.columns:
            made = made.where(self._of["id"] == value("id0"))
        return self._compiled(made.values({error: value("reason")}))

    @functools.cached_property
    def measure(self) -> Statement:
        """What waits, by topic: how many, the oldest, how many are refused, the oldest of those that are not."""
        error, at = self._of["error"], self._as_text(self._of["at"])
        inner = self._hinted(sa.select(self._of["topic"].label("topic"), at.label("at"), error.label("error")))
        if self._mapping.pending:
            inner = inner.where(sa.literal_column(f"({self._mapping.pending})"))
        rows = inner.order_by(self._seq).limit(value("most")).subquery("i")
        count = sa.func.count()
        return self._compiled(
            sa.select(
                rows.c.topic, count, sa.func.min(rows.c.at), sa.func.count(rows.c.error),
                sa.func.min(sa.case((rows.c.error.is_(None), rows.c.at))),
            ).group_by(rows.c.topic).order_by(sa.desc(sa.text("2")), rows.c.topic)
        )  # fmt: skip

    @functools.cached_property
    def any(self) -> Statement:
        """Is there a row that waits?"""
        made = self._hinted(sa.select(self._seq))
        if self._mapping.pending:
            made = made.where(sa.literal_column(f"({self._mapping.pending})"))
        return self._compiled(made.limit(1))

    @functools.cached_property
    def first(self) -> Statement:
        """The number of the oldest row that could be published."""
        made = sa.select(sa.func.min(self._seq)).select_from(self._table).where(self._of["error"].is_(None))
        if self._mapping.pending:
            made = made.where(sa.literal_column(f"({self._mapping.pending})"))
        return self._compiled(made)

    @functools.cached_property
    def refused(self) -> Statement:
        """The refused events, for a person."""
        said = [self._of[name] for name in ("id", "topic", "key", "at", "error", "tbl")]
        made = self._hinted(sa.select(*said)).where(self._of["error"].is_not(None))
        return self._compiled(made.order_by(self._seq).limit(100))

    def _compiled(self, made: Any, done: str = "") -> Statement:
        """With what is done to a row (SQL behind SET) in the place of what SQLAlchemy has written there."""
        found = made.compile(dialect=self._dialect, compile_kwargs={"render_postcompile": True})
        text = found.string
        if done:
            head, _, where = text.partition("WHERE ")
            percent = "%%" if self._dialect.paramstyle in ("format", "pyformat") else "%"
            text = f"{head.partition(' SET ')[0]} SET {done.replace('%', percent)} WHERE {where}"
        order = found.positiontup
        fixed = {name: value for name, value in found.params.items() if value is not None}
        return Statement(text, tuple(order) if order is not None else None, fixed)
