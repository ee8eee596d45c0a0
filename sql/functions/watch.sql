-- relay.watch(tbl, topic, ops, columns, ignore, "when", key, old, always, bulk) -> text
-- Installs triggers on a table: each change of a row becomes an event in relay.outbox, in the writer's transaction.
-- Calling it again changes the watch in place. Only the table's owner may call it, if a member of relay_watcher.
--   tbl      the table; of a partitioned table, the root: its partitions are included, also those attached later
--   topic    routing key; default schema.table
--   ops      which of '{insert,update,delete,truncate}'; default all
--   columns  the columns in the events; default all, also those added later
--   ignore   or: the columns that are not. An update that changes only these writes no event
--   "when"   a condition on the row, with the meaning of a publication's row filter: an update that makes a row enter
--            the condition is an insert, one that makes it leave is a delete
--   key      the columns that identify a row, if not the primary key: its events keep their order
--   old      false: no image of the row before
--   always   true: also rows that arrive by logical replication
--   bulk     true: one trigger a statement, for tables that are loaded in bulk (docs/sql.md, "Bulk")
-- Result: what is watched now.
--     select relay.watch('public.orders');
--     select relay.watch('public.orders', topic => 'shop.orders', ignore => '{last_seen}', "when" => 'total > 100');
create or replace function relay.watch(
    tbl regclass, topic text default null, ops text[] default null, columns text[] default null,
    ignore text[] default null, "when" text default null, key text[] default null, old boolean default true,
    always boolean default false, bulk boolean default false
) returns text
language sql  -- without SET search_path: the names in "when" are looked up with the caller's
as $$
    select relay.watch_table(tbl, topic, ops, columns, ignore, "when", key, old, always, bulk,
                             pg_catalog.current_setting('search_path'))
$$;
