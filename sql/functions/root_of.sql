-- relay.root_of(tbl oid) -> oid
-- The topmost partitioned table a partition belongs to; for any other table, the table itself.
--     select relay.root_of('public.orders_2024'::regclass)::regclass;     -- public.orders
create or replace function relay.root_of(tbl oid) returns oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select coalesce(pg_partition_root(tbl)::oid, tbl) $$;
