-- The order of events when a trigger of the application changes a row whose own event is still to come:
--
--     insert into address values (1, true), (2, true);    -- and an AFTER ROW trigger that, for each new default
--                                                         -- address, sets the others to false
--
-- Row 1's trigger updates row 2 before the triggers of row 2's insert have run: the event of the update is written
-- first. To put the insert before it, an event written by a nested trigger about a row version of its own transaction
-- leaves numbers free below its own, and remembers that version (from_row). The event that made the version finds it
-- replaced already (xmax is set), and takes the number below.

-- How many are free is remembered as well: what nests is not only triggers, each a level deeper than the one before. A
-- function that a statement calls may change the row again, and call itself; a trigger may be deferred; a view may have
-- columns named ctid and xmin, and say what it likes. A number that was not left free is another session's.

-- relay.left_free(depth int) -> int
-- How many numbers an event leaves free below its own: two (a change of the key is two events) for each level of triggers
-- around this one, and for no more than eight.
create or replace function relay.left_free(depth int) returns int
language sql immutable
as $$ select least(2 operator(pg_catalog.*) (depth operator(pg_catalog.-) 1), 16) $$;

-- relay.take_number(depth int) -> bigint
-- A number for an event, with relay.left_free below it free. Taken until so many have followed one another: other
-- sessions take numbers meanwhile, and one in between would be another's.
create or replace function relay.take_number(depth int) returns bigint
language plpgsql
as $$
declare
    number bigint := pg_catalog.nextval('relay.outbox_seq_seq');
    before bigint;
    in_a_row int := 1;
begin
    while in_a_row <= relay.left_free(depth) loop
        before := number;
        number := pg_catalog.nextval('relay.outbox_seq_seq');
        in_a_row := case when number = before + 1 then in_a_row + 1 else 1 end;
    end loop;
    return number;
end $$;

-- relay.row_version(tbl oid, at tid) -> text
-- What tells a row version from all others of a transaction: a ctid does so only within one file. Each partition has a
-- file of its own, and a table gets another by TRUNCATE.
create or replace function relay.row_version(tbl oid, at tid) returns text
language sql stable
as $$ select pg_catalog.concat(tbl, '/', pg_catalog.pg_relation_filenode(tbl), '/', at) $$;

-- relay.later(xid xid8, made text) -> seq bigint, free int
-- The event, already written in this transaction, that began with the row version "made", and how many numbers below its
-- own are still free; null if there is none (xmax is also set by a mere lock), or if there are not two. "at": after a
-- restore, another transaction may have had the same id.
create or replace function relay.later(xid xid8, made text, out seq bigint, out free int)
language sql stable
set enable_seqscan = off  -- in SERIALIZABLE, who reads the outbox as a whole fails for what the writer of another table has written
as $$
    select o.seq, pg_catalog.split_part(o.from_row, ' ', 2)::int from relay.outbox o
    where o.xid = later.xid and o.from_row is not null and o.at >= pg_catalog.now()
        and o.from_row = any (array(select pg_catalog.concat(made, ' ', f) from pg_catalog.generate_series(2, 16) f))
    order by o.seq + 0 limit 1  -- not by the index on seq: that is all of the outbox
$$;
drop function if exists relay.later_event(xid8, text);  -- of version 2 before its release

-- relay.write_event(...) -> void
-- One event into the outbox, on row_event's rare paths: with a given number if seq is not null.
create or replace function relay.write_event(
    seq bigint, from_row text, at timestamptz, xid xid8, topic text, tbl text, op text, key text, old json, new json,
    too_large boolean
) returns void
language plpgsql
as $$
#variable_conflict use_column
begin
    insert into relay.outbox (seq, from_row, xid, at, topic, tbl, op, key, old_image, new_image, too_large)
        overriding system value
        values (coalesce(write_event.seq, pg_catalog.nextval('relay.outbox_seq_seq')), write_event.from_row,
                write_event.xid, write_event.at, write_event.topic, write_event.tbl, write_event.op,
                pg_catalog.concat(write_event.tbl, ' ', write_event.key), old::text, new::text, write_event.too_large);
end $$;
