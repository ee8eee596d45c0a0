"""The statements on schema `relay`. SQL stands here, in outbox_read.py and in sql/, nowhere else."""

from collections.abc import Iterable, Mapping

from relay.listening import locks, outbox_read
from relay.listening.event import Row
from relay.listening.outbox_read import filled, prepare

SWEEP = "sweep"  # payload of a NOTIFY by a command: read everything once more


def shown(text: str) -> str:
    """Select a text of a user's, whatever the database's encoding: as its bytes, of which `Database` makes a text."""
    return f"replace(({text})::text, chr(92), chr(92) || chr(92))::bytea"


_THESE = """o.seq = any(%(seqs)s) and coalesce((o.seq, o.xid, o.at) in (
        select d.seq, d.xid::text::xid8, timestamptz 'epoch' + d.at * interval '1 microsecond'
        from unnest(%(seqs)s, %(xids)s, %(ats)s) as d (seq, xid, at)), false)"""

_DELETE = f"""
with mine as materialized (
    select 1 from relay.listener l where l.turn = %(turn)s for share
), gone as (
    delete from relay.outbox o
    where {_THESE} and (select count(*) from mine) = 1
    returning 1
)
select pg_current_xact_id()::text::bigint, (select count(*) from mine) = 1, (select count(*) from gone),
       set_config('synchronous_commit', 'off', true)
"""  # noqa: S608
DELETE = "execute relay_delete (%s, %s, %s, %s)"
# Only while it is this session's turn (TAKE): the broker's lease does not reach into PostgreSQL, where a DELETE of a
# dead process may still be under way. Executed after its successor's first read, it would take the rest of a tail that
# is sent again: in the queue 1 2 3 1, and the target is left with 1. The row lock makes TAKE wait for a DELETE that
# has begun.
# Not waiting for the disk: losing this commit in a crash costs a repetition, never an event. Not by seq alone: after a
# restore a number can belong to another event than the one confirmed. No join: with stale statistics the planner would
# hash it and read the whole index, dead rows included, for every batch (measured: 0.09 of the rate under a pg_dump).
# coalesce() keeps it from making one of IN. By what stands in the row: to make the id of each once more, and look for
# it in an array, took as long as the rest of DELETE.

_LEFT = f"select count(*) from relay.outbox o where {_THESE}"  # noqa: S608
LEFT = "execute relay_left (%s, %s, %s)"
# Before the first DELETE of a session, of the last event that one has deleted (confirmed.py).
# After a DELETE that has found fewer: most were gone (the answer to an earlier DELETE was lost, an operator's `drop`, a
# restore). What is still there was kept by somebody else's trigger, rule or policy.

_ROWS = {"seqs": "bigint[]", "xids": "bigint[]", "ats": "bigint[]"}
PREPARE = (
    outbox_read.PREPARE
    + prepare("relay_delete", {"turn": "bigint"} | _ROWS, _DELETE)
    + prepare("relay_left", _ROWS, _LEFT)
)
"""Comes after SESSION: what READ, SKIP, DELETE and LEFT execute."""

XID = "select pg_current_xact_id()::text::bigint"
LOCK = "select pg_advisory_lock(%s)"
UNLOCK = "select pg_advisory_unlock(%s)"
_HOLDERS = f"""
from {locks.FROM}
where l.locktype = 'advisory' and l.granted and {locks.OTHERS}
  and (l.classid::bigint << 32 | l.objid::bigint) = %s and l.objsubid = 1
"""
_UNLOCKED = f"{locks.ROLLBACK} else 'end that session, or select pg_advisory_unlock_all() in it' end"
HOLDER = f"""
select {shown(f"string_agg({locks.WHO}, ', ')")}, {shown(f"string_agg(distinct {_UNLOCKED}, '; ')")} {_HOLDERS}
"""
TAKE = "update relay.listener set turn = turn + %s, wakes = %s returning turn, channel"
# Not an advisory lock: any login could take it, and no listener would run any more.
END_HOLDERS = f"""
select distinct {shown(locks.WHO)}, {shown(locks.ENDS)},
       case when pg_has_role(a.usesysid, 'USAGE') then pg_terminate_backend(a.pid) end
from {locks.FROM}
where l.relation = 'relay.listener'::regclass and l.mode in ('RowShareLock', 'RowExclusiveLock') and l.granted
  and {locks.OTHERS}
"""  # noqa: S608
WAKE = "select pg_notify(l.channel, %s) from relay.listener l"
INCOMPLETE = f"""
set local statement_timeout = '5s';
select {shown("w.tbl")}, {shown("pg_catalog.left(w.note, 1000)")}, {shown("pg_catalog.left(w.remedy, 1000)")}
from (select w.*, row_number() over (partition by w.owner, not exists (select from pg_class c where c.oid = w.tbl)
                                     order by w.tbl) as n
      from relay.watched w where w.note is not null) w
where w.n <= 100
"""  # noqa: S608
# At most so many of one owner's tables, and as many that were dropped: nobody fills the log, or hides another's.
# Of a watched table, by its name in events: what its events hold. Names and types only, of the catalog.
# By its oid, so that relay.watched looks for no notes on others: their owners can have that take long.
COLUMNS = f"""
set local statement_timeout = '1s';
select {shown("a.attname")}, {shown("format_type(a.atttypid, a.atttypmod)")}, a.attnotnull,
       a.attname::text = any (w.key)
from relay.watched w
join pg_attribute a on a.attrelid = w.tbl
where w.tbl = any (array(select c.oid::regclass from pg_class c join pg_namespace s on s.oid = c.relnamespace
                         where s.nspname || '.' || c.relname = %s))
  and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'
  and (w.columns = '{{}}' or a.attname::text = any (w.columns)) and not a.attname::text = any (w.ignore)
order by a.attnum
"""  # noqa: S608
# For a standby: does anything wait, how much was ever relayed, and who else is here as a listener, for a while already?
OTHERS = f"""
select exists(select from relay.outbox where error is null),
       coalesce(pg_stat_get_tuples_deleted('relay.outbox'::regclass), 0),
       (select {shown("pg_catalog.concat('pid ', a.pid, ' (', concat_ws(', ', a.usename, host(a.client_addr)), ')')")}
        from pg_stat_activity a
        where a.datname = current_database() and a.pid <> pg_backend_pid() and a.backend_start < now() - interval '5 s'
          and a.application_name = current_setting('application_name')
        order by a.backend_start limit 1)
"""  # noqa: S608
LONG_OUTBOX = 20_000  # events; above it, who sends rows again waits for the listener
LENGTH = "select count(*) from (select from relay.outbox limit %s) o"


MEASURE = f"""
select {shown("topic")}, count(*), extract(epoch from min(at))::float8, count(error),
       extract(epoch from clock_timestamp() - min(at) filter (where error is null))::float8
from (select left(topic, 200) as topic, at, error from relay.outbox limit %s) o
group by grouping sets ((), (topic))
order by grouping(topic) desc, 2 desc, 3
limit 11
"""  # noqa: S608
# How many, when the oldest was written, how many are refused, for how long the oldest that is not has waited.
# The first row is of all; then the topics with most. Limited: a backlog of millions would be counted for seconds.
NOTIFIED = "select relay.notified(%s::text[], %s::text[])"
NOTIFIED_RAW = """
select relay.notified(array_agg(convert_from(u.channel, e.own) order by u.n),
                      array_agg(convert_from(u.payload, e.own) order by u.n)),
       sum(length(convert(u.payload, e.own, 'UTF8')))
from (select getdatabaseencoding() as own) e, unnest(%s::bytea[], %s::bytea[]) with ordinality u (channel, payload, n)
"""
# Of bytes, as they are in a database that is not UTF-8; refused if one of the payloads could not be read again.
REFUSE = filled("update relay.outbox o set error = %s where o.seq = %s and ID(o) = %s::uuid")


def rows(batch: Mapping[int, Row]) -> tuple[str, str, str]:
    """Rows, by seq, as DELETE and LEFT take them."""
    return _array(batch), _array(row.xid for row in batch.values()), _array(row.at for row in batch.values())


def _array(values: Iterable[int]) -> str:
    """The text of a PostgreSQL array: psycopg2 takes five times as long over a list."""
    return "{" + ",".join(map(str, values)) + "}"
