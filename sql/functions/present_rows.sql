-- relay.present_rows(tbl regclass, keys text[], largest int) -> nth int[], images text[]
-- The rows of a watched table that have these keys now, as their next snapshot would have them: the columns and the
-- condition of relay.watch. For who asks the listener (REQUESTS); nothing is locked but the table, as by read_rows.
--   keys     JSON, {"id":42} each
--   largest  bytes of an image; of a larger one there is null
--   nth      for each row found, its key's number in keys, from 1
--     select * from relay.present_rows('public.orders', '{"{\"id\": 42}"}', 262144);
create or replace function relay.present_rows(
    tbl regclass, keys text[], largest int, out nth int[], out images text[]
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    w constant record := relay.watch_of(tbl);
    r record;
begin
    perform relay.check_key(tbl, w.names, k::json) from unnest(keys) k;
    select * into r from relay.read_present(tbl, w.names, w.columns, w.options, w.filter, keys::json[]);
    perform relay.check_watch(tbl, w);
    if r.problem is not null then
        raise exception '%', substr(r.problem, 7) using errcode = left(r.problem, 5);
    end if;
    select array_agg(e.nth), array_agg(case when octet_length(e.image) <= largest then e.image end)
        into nth, images from unnest(r.nth, r.images, r.passes) e (nth, image, passes) where e.passes;
end $$;

-- relay.watched_table(name text) -> regclass
-- The watched table with this name, schema and table joined with a dot, as events have it; an error if there is none.
create or replace function relay.watched_table(name text) returns regclass
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    found oid[];
begin
    -- "a.b".c and a."b.c" are the same text.
    select array_agg(c.oid) into found
        from generate_series(1, length(name)) i (at)
        join pg_namespace s on s.nspname = left(name, i.at - 1)
        join pg_class c on c.relnamespace = s.oid and c.relname = substr(name, i.at + 1)
        where substr(name, i.at, 1) = '.' and length(name) <= 127
          -- All that relay.watches has, without reading all of it; relay.watch_of looks whether it is one.
          and exists (select from pg_trigger g where g.tgrelid = c.oid and g.tgname like E'!relay\\_%' and g.tgparentid = 0
                      and g.tgfoid in (select oid from pg_proc where pronamespace = 'relay'::regnamespace));
    if cardinality(found) is distinct from 1 then
        raise exception 'relay: % tables named % are watched', coalesce(cardinality(found)::text, 'no'), quote_literal(left(name, 200))
            using errcode = 'undefined_table', hint = 'As its owner: select relay.watch(...); relay.watched shows what is watched.';
    end if;
    return found[1];
end $$;
