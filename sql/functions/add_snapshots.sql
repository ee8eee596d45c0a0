-- relay.add_snapshots(tbl regclass, keys text[], images text[]) -> int
-- Puts rows of a watched table into the outbox as events with op snapshot, for relay.resend_chunk, which reads them
-- with its caller's rights. An image that is null was too large to be written as JSON. Result: how many.
create or replace function relay.add_snapshots(tbl regclass, keys text[], images text[]) returns int
language plpgsql security definer
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
    select topic, name into strict w from relay.watches where watches.tbl = add_snapshots.tbl;
    insert into relay.outbox (xid, id, at, topic, tbl, op, key, body)
        select xid, e.id, at, w.topic, w.name, 'snapshot', concat(w.name, ' ', e.key),
            relay.event_body(e.id, at, xid, w.name, 'snapshot', e.key, null, e.image, e.image is null)
        from (select gen_random_uuid() as id, u.*
              from unnest(keys, images) with ordinality u (key, image, n) offset 0) e
        order by e.n;
    get diagnostics written = row_count;
    perform relay.wake();
    return written;
end $$;
