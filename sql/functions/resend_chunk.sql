-- relay.resend_chunk(tbl regclass, after json, most int, "where" text) -> copied int, last json, skipped json[]
-- Copies existing rows of a watched table into the outbox, as events with op snapshot: a first load, or a repair.
--   after    the key of the last row already copied, {"id":42}; null = from the beginning
--   most     how many rows (more, if several share the last key)
--   "where"  a further condition on the row, null = none; the names of functions and types in it with their schema
--   copied   rows written to the outbox
--   last     pass it as "after" next time; null = the end was reached
--   skipped  keys of rows that others had locked: pass them to relay.resend_row
-- Call it in transactions of their own, READ COMMITTED, and commit each: the rows stay locked (FOR SHARE) until then,
-- so that no change of theirs can come before their snapshot but be older. It never waits for a lock, so it cannot make
-- the application the victim of a deadlock. The topic, the columns and the condition are those of relay.watch.
-- Rows whose key is null are left out. It runs with the caller's rights:
--     grant usage on schema app to r; grant select, update (id) on app.orders to r;    -- FOR SHARE needs an UPDATE right
--     select * from relay.resend_chunk('public.orders', null, 1000, null);
create or replace function relay.resend_chunk(
    tbl regclass, after json, most int, "where" text, out copied int, out last json, out skipped json[]
)
language plpgsql
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
declare
    q constant record := relay.resend_query(tbl, "where");
    chosen text[];
    keys text[];
    images text[];
begin
    if after is not null and exists (select from unnest(q.names) n where after ->> n is null) then
        raise exception 'relay: % is not a key of %', after, tbl
            using errcode = 'invalid_parameter_value',
                hint = format('A key of it looks like {%s}.',
                    (select string_agg(to_json(n) || ':...', ',') from unnest(q.names) n));
    end if;
    execute format('select array_agg(k.key order by k.n) from (select %1$s as key, row_number() over (order by %2$s) as n '
                   'from %3$s where %4$s and %5$s order by %2$s fetch first $3 rows with ties) k',
                   q.key, q.key_columns, q.source, q.condition, case when after is null then 'true' else q.after end)
        into chosen using q.names, q.numbers, most, after;
    last := chosen[cardinality(chosen)];
    if chosen is null then
        copied := 0;
        skipped := '{}';
        return;
    end if;
    execute format('select array_agg(r.key), array_agg(r.image::text) from (select %1$s as key, %2$s as image '
                   'from %3$s where %4$s and %5$s and not (%6$s) order by %7$s for share of t skip locked) r',
                   q.key, q.image, q.source, q.condition, case when after is null then 'true' else q.after end,
                   replace(q.after, '$4', '$3'), q.key_columns)
        into keys, images using q.names, q.numbers, last, after, q.options;
    copied := relay.add_snapshots(tbl, coalesce(keys, '{}'), coalesce(images, '{}'));
    skipped := array(select c::json from unnest(chosen) c where c <> all (coalesce(keys, '{}')));
    if cardinality(chosen) < most then
        last := null;
    end if;
end $$;

-- relay.resend_row(tbl regclass, key json, "where" text) -> int
-- The same for the rows with one key; waits for their locks (set lock_timeout). Result: how many were copied; 0 if there
-- is none, or it does not meet the condition. In a transaction of its own: who holds no other lock deadlocks nobody.
--     select relay.resend_row('public.orders', '{"id": 42}', null);
create or replace function relay.resend_row(tbl regclass, key json, "where" text) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
declare
    q constant record := relay.resend_query(tbl, "where");
    keys text[];
    images text[];
begin
    execute format('select array_agg(r.key), array_agg(r.image::text) from (select %s as key, %s as image '
                   'from %s where %s and %s for share of t) r', q.key, q.image, q.source, q.condition, q.same)
        into keys, images using q.names, q.numbers, key, null, q.options;
    return relay.add_snapshots(tbl, coalesce(keys, '{}'), coalesce(images, '{}'));
end $$;
