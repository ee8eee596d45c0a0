-- relay.add_snapshots(tbl regclass, keys text[], images text[], passes boolean[], problem text) -> int
-- Puts rows of a watched table into the outbox as events with op snapshot, for relay.resend_chunk. An image that is null
-- was too large to be written as JSON; a row that does not pass the condition is left out. Result: how many.
create or replace function relay.add_snapshots(
    tbl regclass, keys text[], images text[], passes boolean[], problem text
) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    written int;
begin
    if problem is not null then
        raise exception '%', substr(problem, 7) using errcode = left(problem, 5);
    end if;
    select topic, name into strict w from relay.watches where watches.tbl = add_snapshots.tbl;
    insert into relay.outbox (topic, tbl, op, key, new_image, too_large)
        select w.topic, w.name, 'snapshot', concat(w.name, ' ', e.key), e.image, nullif(e.image is null, false)
        from unnest(keys, images, passes) with ordinality e (key, image, passes, n) where e.passes order by e.n;
    get diagnostics written = row_count;
    perform relay.wake();
    return written;
end $$;
