-- relay.column_now(tbl oid, number smallint) -> text
-- The present name of a table's column, by its number; null if it was dropped. Numbers outlive a RENAME COLUMN.
--     select relay.column_now('public.orders'::regclass, 1::smallint);
create or replace function relay.column_now(tbl oid, number smallint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select attname::text from pg_attribute where attrelid = tbl and attnum = number and not attisdropped $$;
