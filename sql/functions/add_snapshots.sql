-- relay.add_snapshots(tbl regclass, keys text[], images text[], passes boolean[], problem text) -> int
-- Puts rows of a watched table into the outbox as events with op snapshot, for relay.resend_chunk. An image that is null
-- was too large to be written as JSON; a row that does not pass the condition is left out. Result: how many.
create or replace function relay.add_snapshots(
    tbl regclass, keys text[], images text[], passes boolean[], problem text
) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, YMD'
set timezone = 'UTC'
as $$
declare
    xid constant xid8 := pg_current_xact_id();  -- before seq: see tables.sql
    at constant timestamptz := clock_timestamp();
    w record;
    written int;
begin
    if problem is not null then
        raise exception '%', substr(problem, 7) using errcode = left(problem, 5);
    end if;
    select topic, name into strict w from relay.watches where watches.tbl = add_snapshots.tbl;
    insert into relay.outbox (xid, id, at, topic, tbl, op, key, body)
        select xid, e.id, at, w.topic, w.name, 'snapshot', concat(w.name, ' ', e.key),
            relay.event_body(e.id, at, xid, w.name, 'snapshot', e.key, null, e.image, e.image is null)
        from (select gen_random_uuid() as id, u.*
              from unnest(keys, images, passes) with ordinality u (key, image, passes, n) where u.passes offset 0) e
        order by e.n;
    get diagnostics written = row_count;
    perform relay.wake();
    return written;
end $$;
