-- relay.watch_table(...) -> text
-- relay.watch with one parameter more: path, the search_path for the names in "when".
create or replace function relay.watch_table(
    tbl regclass, topic text, ops text[], columns text[], ignore text[], "when" text, key text[], old boolean,
    always boolean, bulk boolean, path text
) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    name constant text := relay.check_table(tbl);
    options jsonb := relay.find_columns(tbl, columns, ignore);
    filter constant text[] := relay.qualify(tbl, "when", path);
    args text[];
begin
    topic := relay.check_topic(coalesce(topic, name));
    ops := relay.check_ops(ops);
    key := relay.find_key(tbl, key);
    if filter is not null then
        options := options || jsonb_build_object('when', "when", 'filter', filter[3]);
    end if;
    if old is false then
        options := options || '{"old": false}';
    end if;
    if bulk then
        perform relay.check_bulk(tbl, key, "when", always);
    end if;
    args := array[relay.column_numbers(tbl, key)::text, options::text] || key;

    perform relay.set_triggers(tbl, ops, case when bulk then 'bulk_event' else 'row_event' end, filter,
                               columns is null and ignore is null, array[topic, name], args);
    perform relay.let_read(tbl, key, filter[3]);
    perform relay.tell_children(tbl);
    perform relay.set_always(tbl, coalesce(always, false));
    perform relay.remember(tbl, name, coalesce(always, false));
    return format('%s: %s to topic %s, key %s', tbl, array_to_string(ops, ', '), topic, array_to_string(key, ', '));
end $$;

-- relay.remember(tbl regclass, name text, always boolean) -> void
-- Notes what is watched now, so that a trigger that is lost is noticed (relay.watched).
create or replace function relay.remember(tbl regclass, name text, always boolean) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into relay.wanted (tbl, name, triggers, always)
        select remember.tbl, remember.name, array_agg(tgname::text order by tgname), remember.always from pg_trigger
        where tgrelid = remember.tbl and tgname like '!relay\_%' and tgparentid = 0
        on conflict (tbl) do update set name = excluded.name, triggers = excluded.triggers, always = excluded.always
$$;
