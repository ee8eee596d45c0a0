-- relay.set_trigger(tbl regclass, name text, event text, calls text, condition text, args text[]) -> void
-- Creates one trigger of relay.watch, or changes it in place.
--   event      insert, update, delete, truncate
--   calls      row_event, image_event or boxed_event (for each row), bulk_event or truncate_event (for each statement)
--   condition  its WHEN, or null
create or replace function relay.set_trigger(
    tbl regclass, name text, event text, calls text, condition text, args text[]
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on  -- conditions are written so: relay.definition_of
set array_nulls = on
as $$
declare
    before constant tid := (select ctid from pg_trigger where tgrelid = tbl and tgname = name);
begin
    execute format('create %s trigger %I after %s on %s %s for each %s %s execute function relay.%I(%s)',
        case when current_setting('server_version_num')::int >= 140000 then 'or replace' end, name, event, tbl,
        case when calls = 'bulk_event' then concat_ws(' ', 'referencing',
            case when event <> 'insert' then 'old table as relay_old' end,
            case when event <> 'delete' then 'new table as relay_new' end) end,
        case when calls in ('row_event', 'image_event', 'boxed_event') then 'row' else 'statement' end, 'when (' || condition || ')', calls,
        (select string_agg(quote_literal(a), ', ' order by n) from unnest(args) with ordinality x (a, n)));
    perform relay.check_name(tbl, exists (
        select from pg_trigger where tgrelid = tbl and tgname = name and ctid is distinct from before));
exception when grouping_error or windowing_error or feature_not_supported then
    raise exception 'relay.watch: "when" does not work for %: %', tbl, sqlerrm
        using errcode = 'invalid_parameter_value',
            hint = 'Give a condition on the columns of one row, for example "when" => ''total > 100''.';
end $$;

-- relay.set_always(tbl regclass, always boolean) -> void
-- Whether the triggers of relay.watch also fire for rows that arrive by logical replication.
create or replace function relay.set_always(tbl regclass, always boolean) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Asked once: as a subquery it may be asked anew for each trigger there is, which is minutes for 1,000 partitions.
    tables constant oid[] := array(select relid from pg_partition_tree(tbl) union select tbl);
    t record;
begin
    -- One by one also for partitions: before PostgreSQL 15 they do not follow the parent.
    for t in
        select tgrelid::regclass as relation, tgname from pg_trigger
        where tgname like E'!relay\\_%' and tgenabled <> case when always then 'A' else 'O' end
          and tgrelid = any (tables)
    loop
        execute format('alter table only %s enable %s trigger %I', t.relation, case when always then 'always' end,
                       t.tgname);
    end loop;
    perform relay.check_name(tbl, not exists (
        select from pg_trigger where tgname like E'!relay\\_%' and tgenabled <> case when always then 'A' else 'O' end
        and tgrelid = any (tables)));
end $$;

-- relay.drop_triggers(tbl regclass, names text[]) -> void
create or replace function relay.drop_triggers(tbl regclass, names text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    name text;
begin
    foreach name in array names loop
        execute format('drop trigger if exists %I on %s', name, tbl);  -- not there: of another table, as check_name says
        perform relay.check_name(tbl, not exists (select from pg_trigger where tgrelid = tbl and tgname = name));
    end loop;
end $$;
