-- relay.check_bulk(tbl regclass, key text[], "when" text, always boolean) -> void
-- An error if the table cannot be watched with one trigger a statement.
create or replace function relay.check_bulk(tbl regclass, key text[], "when" text, always boolean) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    reason text := (
        select case
            when "when" is not null then 'it cannot be combined with "when"'
            when always then 'it cannot be combined with always: logical replication fires row triggers only'
            when c.relkind = 'p' then 'the table is partitioned: writes to a partition would be missed'
            when c.relispartition then 'the table is a partition: writes to its parent would be missed'
            when exists (select from pg_inherits where tbl in (inhrelid, inhparent))
                then 'the table inherits or is inherited: writes to the other would be missed or doubled'
            when not exists (select from pg_index i where i.indrelid = tbl and i.indisunique and i.indpred is null
                             and i.indnatts >= cardinality(key) and i.indnkeyatts = cardinality(key)
                             and (select array_agg(attname::text) from pg_attribute
                                  where attrelid = tbl and attnum = any (i.indkey::int2[]) and attnum > 0) @> key)
                then format('there is no unique index on (%s): images before and after could not be paired',
                            array_to_string(key, ', '))
            when exists (select from pg_constraint where contype = 'f' and conrelid = tbl and confrelid = tbl
                         and (confupdtype in ('c', 'n', 'd') or confdeltype in ('n', 'd')))
                then 'a foreign key to itself writes to rows of the same statement'
        end from pg_class c where c.oid = tbl);
    trigger_name text := (
        select tgname from pg_trigger
        where tgrelid = tbl and not tgisinternal and tgname not like E'!relay\\_%' and tgtype & 66 = 0 limit 1);
begin
    if trigger_name is not null and reason is null then
        reason := format('trigger %I fires after changes too, and may write to the same rows: its events would come '
            'before those of the statement', trigger_name);
    end if;
    if reason is not null then
        raise exception 'relay.watch: bulk => true is not possible for %: %', tbl, reason
            using errcode = 'invalid_parameter_value', hint = 'Leave bulk out: one trigger a row has no such limit.';
    end if;
end $$;
