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
    perform relay.let_read_key(tbl, array(
        select attname::text from pg_attribute
        where attrelid = tbl and attnum > 0 and not attisdropped
          and (attname = any (key) or strpos(filter[3], 't.' || quote_ident(attname)) > 0)));
    perform relay.tell_children(tbl);
    perform relay.set_always(tbl, coalesce(always, false));
    return format('%s: %s to topic %s, key %s', tbl, array_to_string(ops, ', '), topic, array_to_string(key, ', '));
end $$;
