"""What is read of the outbox: the statements, and what their answers mean."""

import bisect
import itertools
import re
from typing import Any

from relay.listening.event import OutboxEvent, plain
from relay.listening.source import Held, Passed, Read, Skipped

UNREADABLE = "it can't be read"  # begin the reason of an event that was refused for that (unread.py)
NO_KEY = "it can't be read, nor its key"

# Bytes of a body, and of each value beside it (key, headers, what a trigger made by hand is given). The listener takes
# up to four times a body, and its unit allows 512 MiB. Tables are remembered; PostgreSQL's have 127.
LARGEST, BESIDE, NAME = 96 << 20, 1 << 20, 1000
TOO_LARGE = f"larger than {LARGEST >> 20} MiB, or its topic, key, headers than {BESIDE >> 20} MiB, or its table's name"


def filled(sql: str) -> str:
    """A statement with its limits and what ID(row), BODY(row, id), SIZE(row) (some bytes), HEAVY(row, headers) mean.

    A row event has its id and body made here, by functions that read no JSON and run no code of a user.
    """
    id_ = r"coalesce(\1.id, relay.event_id((select install from relay.listener), \1.seq, \1.xid, \1.at))"
    body = r"""coalesce(\1.body, relay.event_body(\2, \1.at, \1.xid, \1.tbl, \1.op, \1.key, \1.old_image, \1.new_image,
                                      \1.too_large))"""
    size = r"""coalesce(octet_length(\1.body), coalesce(octet_length(\1.old_image), 0)
        + coalesce(octet_length(\1.new_image), 0) + coalesce(octet_length(\1.key), 0) + 200)"""
    heavy = r"""(SIZE(\1) > LARGEST
        or greatest(octet_length(\1.key), octet_length(\2), octet_length(\1.topic),
                    octet_length(\1.op)) > BESIDE or coalesce(octet_length(\1.tbl) > NAME, false))"""
    for name, meaning in (("HEAVY", heavy), ("SIZE", size), ("ID", id_), ("BODY", body)):
        sql = re.sub(rf"\b{name}\((\w+)(?:, ([\w.]+))?\)", meaning, sql)
    limits = {"LARGEST": LARGEST, "BESIDE": BESIDE, "NAMED": NAMED, "NAME": NAME}
    return re.sub("|".join(limits), lambda name: str(limits[name[0]]), sql)


def prepare(name: str, types: dict[str, str], sql: str) -> str:
    """PREPARE a statement with named parameters: to parse and plan READ takes longer than to read one event."""
    numbers = {parameter: f"${number}" for number, parameter in enumerate(types, 1)}
    sql = re.sub(r"%\((\w+)\)s", lambda found: numbers[found[1]], filled(sql)).replace("%%", "%")
    return f"prepare {name} ({', '.join(types.values())}) as {sql};"


# In a gap that has merged with others lie rows that were seen: an earlier read's snapshot shows their transaction.
_UNSEEN = """o.seq between gap.first and gap.last and not pg_visible_in_snapshot(
            o.xid, case when o.seq <= %(upto)s then %(near)s else %(far)s end::pg_snapshot)"""

_READ = f"""
select s.xmin, r.seq, r.ident::text, (extract(epoch from r.at) * 1000000)::bigint, r.xid::text::bigint,
       r.topic, r.shown, r.op, r.key,
       case when r.held then null when r.heavy then '' else BODY(r, r.ident) end,
       r.headers, r.queue, r.heavy, r.error, r.total,
       case when r.total is distinct from r.size then null else pg_current_snapshot()::text end  -- of the first row
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as xmin) s
left join lateral (
    select w.*, sum(w.size) over (order by w.seq) as total
    from (
        select o.seq, ID(o) as ident, o.at, o.xid, o.tbl, o.old_image, o.new_image, o.too_large, o.error,
               case when o.heavy then left(o.op, 1000) else o.op end as op,
               case when o.keyless then '' when o.heavy then left(o.topic, 1000) else o.topic end as topic,
               case when o.keyless then null when o.heavy then left(o.key, 1000) else o.key end as key,
               case when o.keyless and o.tbl ~ '[^ -~]' then null when o.heavy then left(o.tbl, 1000)
                    else o.tbl end as shown,
               case when o.held or o.heavy then null else o.told end as headers, o.queue, o.heavy, o.held, o.body,
               case when o.heavy then 0 when o.held then o.beside else o.beside + SIZE(o) end as size
        from (
            select n.*, HEAVY(n, n.told) as heavy,
                   octet_length(n.topic) + octet_length(n.op) + coalesce(octet_length(n.key), 0)
                        + coalesce(octet_length(n.tbl), 0) + coalesce(octet_length(n.told), 0) as beside,
                   n.error is not null and n.error like 'it can''t be read, nor its key%%' as keyless,  -- NO_KEY
                   n.error is not null or coalesce(n.key = any(%(keys)s), false)
                        or case when n.tbl is null then n.topic = any(%(topics)s)
                                else n.tbl = any(%(tables)s) end as held
            from (
                select x.*, case when x.error is null then x.headers::text end as told  -- 30 ms for 1 MiB
                from (
                    select * from (
                        select g.* from unnest(%(firsts)s, %(lasts)s) as gap (first, last),
                        lateral (select * from relay.outbox o where {_UNSEEN}
                                 order by o.seq limit %(most)s) g
                        union all
                        (select * from relay.outbox o where o.seq > %(high)s order by o.seq limit %(most)s)
                    ) found
                    order by found.seq limit %(most)s
                ) x
                offset 0
            ) n
            offset 0  -- what is made of a row above is made once, not wherever it is used
        ) o
    ) w
) r on r.total - r.size < %(bytes)s
order by r.seq
"""  # noqa: S608
READ = """execute relay_read (%(firsts)s, %(lasts)s, %(upto)s, %(near)s, %(far)s, %(high)s, %(most)s, %(bytes)s,
                            %(keys)s, %(tables)s, %(topics)s)"""
# One statement, one snapshot: with two, a row's second change could be published before its first (measured).
# Held rows come without their body: they count as seen, so that no read looks at them twice. So do heavy ones, which
# can't be published: any writer could have the listener take a gigabyte into its memory. Bodies are made last.

NAMED = 1020  # bytes of a name that SKIP looks for: NAMED_BYTES characters of a key, a topic, a table's name

_SKIP = """
select min(l.seq), case when l.tbl is not null or l.topic is not null or l.behind then array_agg(l.seq) end,
       l.tbl, l.topic, l.behind
from (
    select o.seq,
           o.error is null and coalesce(octet_length(o.key) <= NAMED and o.key in (select unnest(%(keys)s)), false)
               as behind,
           case when o.error is null and octet_length(o.tbl) <= NAMED and o.tbl in (select unnest(%(tables)s))
                then o.tbl end as tbl,
           case when o.error is null and o.tbl is null and octet_length(o.topic) <= NAMED
                     and o.topic in (select unnest(%(topics)s))
                then o.topic end as topic
    from relay.outbox o where o.seq > %(high)s order by o.seq limit %(most)s
) l
group by l.tbl, l.topic, l.behind
"""
SKIP = "execute relay_skip (%(high)s, %(most)s, %(keys)s, %(tables)s, %(topics)s)"
# By table and topic, what waits by READ's meaning of it (what is marked is READ's to tell), and without them where the
# first is that does not. A million rows that nobody takes are a minute of READ and some seconds of this one: it
# looks at no text that is longer than those it looks for. in (select unnest()) is hashed, any() of a parameter is not.

ALONE = filled(f"""
select x.seq, ID(x)::text
from (
    select g.* from unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) as gap (first, last),
    lateral (select o.id, o.seq, o.xid, o.at from relay.outbox o where {_UNSEEN}
             order by o.seq limit %(most)s) g
    union all
    (select o.id, o.seq, o.xid, o.at from relay.outbox o where o.seq > %(high)s order by o.seq limit %(most)s)
) x
order by x.seq limit %(most)s
""")  # noqa: S608
# The first row of READ.

PROBE = filled("""
select o.seq, o.ident::text, (extract(epoch from o.at) * 1000000)::bigint, o.xid::text::bigint,
       left(o.topic, BESIDE), left(o.tbl, BESIDE), left(o.op, BESIDE), left(o.key, BESIDE),
       case when SIZE(o) <= LARGEST then BODY(o, o.ident) end,
       case when octet_length(o.told) <= BESIDE then o.told end,
       o.queue, HEAVY(o, o.told)
from (
    select n.*, ID(n) as ident, n.headers::text as told from relay.outbox n
    where n.seq >= %(low)s and coalesce('table ' || n.tbl, 'topic ' || n.topic) = %(group)s and n.error is null
      and (n.key is null or n.key <> all(%(keys)s::text[]))
    order by n.seq limit 1
) o
""")
PROBE_ALONE = f"select o.seq, o.ident::text {PROBE[PROBE.index('from (') :]}"
KEY = filled("select o.key, o.topic, o.tbl from relay.outbox o where o.seq = %s and ID(o) = %s::uuid")

PREPARE = prepare(
    "relay_read",
    {"firsts": "bigint[]", "lasts": "bigint[]", "upto": "bigint", "near": "pg_snapshot", "far": "pg_snapshot",
     "high": "bigint", "most": "int", "bytes": "bigint", "keys": "text[]", "tables": "text[]", "topics": "text[]"},
    _READ,
) + prepare(
    "relay_skip",
    {"high": "bigint", "most": "int", "keys": "text[]", "tables": "text[]", "topics": "text[]"},
    _SKIP,
)  # fmt: skip
"""What READ and SKIP execute."""


def read(rows: list[tuple[Any, ...]], most: int, most_bytes: int) -> Read:
    """Take the answer to READ apart.

    Args:
        rows: as fetched; one row with only xmin when nothing was found. Emptied on the way: with both copies of the
            bodies in memory to the end the listener takes a megabyte more.
        most: the limit of rows the statement was given.
        most_bytes: its limit of bytes.
    """
    xmin, seq, *_, total, _ = rows[-1]
    snapshot = rows[0][-1]
    if seq is None:
        return Read(xmin, [], [], [], whole=True, snapshot=snapshot)
    events, held = [], []
    seqs, whole = [row[1] for row in rows], len(rows) < most and total < most_bytes
    rows.reverse()
    while rows:
        _xmin, seq, id_, at, xid, topic, table, op, key, body, headers, queue, heavy, error, *_ = rows.pop()
        if body is None:
            held.append(Held(seq, table, key, topic, error))
        elif headers is None and not heavy:  # nearly all
            events.append(OutboxEvent(seq, id_, at, xid, topic, table, op, key, body.encode(), None, "", queue))
        else:
            events.append(event((seq, id_, at, xid, topic, table, op, key, body, headers, queue, heavy)))
    return Read(xmin, seqs, events, held, whole, snapshot)


def skipped(rows: list[tuple[Any, ...]], most: int) -> Skipped:
    """Take the answer to SKIP apart, which could have as many rows as `most`."""
    passed = [Passed(low, table, topic, behind) for low, seqs, table, topic, behind in rows if seqs]
    stop = min((low for low, seqs, *_ in rows if not seqs), default=None)
    seqs = sorted(itertools.chain.from_iterable(row[1] for row in rows if row[1]))
    if stop is None:
        return Skipped(seqs, passed, full=len(seqs) == most)
    return Skipped(seqs[: bisect.bisect(seqs, stop)], [one for one in passed if one.seq < stop], full=False)


def event(row: tuple[Any, ...]) -> OutboxEvent:
    """Make an event of a row of PROBE."""
    seq, id_, at, xid, topic, table, op, key, body, headers, queue, heavy = row
    unfit = (None, TOO_LARGE) if heavy else plain(headers)
    return OutboxEvent(seq, id_, at, xid, topic, table, op, key, (body or "").encode(), *unfit, queue)
