-- relay.root_of(tbl oid) -> oid
-- The table whose watch a partition's events are of, and whose columns' numbers its triggers have: the nearest one, itself or
-- above it, with triggers of its own; without such the topmost. For any other table, the table itself.
--     select relay.root_of('public.orders_2024'::regclass)::regclass;     -- public.orders
create or replace function relay.root_of(tbl oid) returns oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((
        select a.relid from pg_partition_ancestors(tbl) with ordinality a (relid, n)
        where exists (select from pg_trigger g where g.tgrelid = a.relid and g.tgname like E'!relay\\_%' and g.tgparentid = 0
                      and g.tgtype & 1 = 1)
        order by a.n limit 1), pg_partition_root(tbl), tbl)::oid
$$;

-- relay.tree_of(tbl oid) -> oid[]
-- A table and the partitions below it, also those that came after the snapshot of this transaction. Without waiting for locks:
-- null, if that would be needed.
create or replace function relay.tree_of(tbl oid) returns oid[]
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '20ms'
as $$
begin
    if not exists (select from pg_partitioned_table where partrelid = tbl) then
        return array[tbl];
    elsif current_setting('transaction_isolation') not like 'read %' then
        return array(select relid from pg_partition_tree(tbl));
    end if;
    return array(
        with recursive below (oid) as (
            select tbl union select i.inhrelid from below b join pg_partitioned_table p on p.partrelid = b.oid
                join pg_inherits i on i.inhparent = b.oid
        ) select oid from below);
exception when lock_not_available then
    return null;
end $$;
