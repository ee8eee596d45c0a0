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

    perform relay.set_triggers(tbl, ops, case when bulk then 'bulk_event' when relay.is_usual(tbl, args) then 'row_event'
                                               when relay.has_own_types(tbl) then 'boxed_event' else 'image_event' end,
                               filter, columns is null and ignore is null, array[topic, name], args);
    perform relay.let_read(tbl, key, filter[3]);
    perform relay.tell_children(tbl);
    perform relay.set_always(tbl, coalesce(always, false));
    perform relay.remember(tbl, name, coalesce(always, false), filter[3]);
    perform relay.never_ask(tbl, relay.unasked(tbl, relay.column_numbers(tbl, key), filter is not null));
    return format('%s: %s to topic %s, key %s', tbl, array_to_string(ops, ', '), topic, array_to_string(key, ', '));
end $$;

-- relay.has_own_types(tbl regclass) -> boolean: whether a column has a type that is not PostgreSQL's own.
create or replace function relay.has_own_types(tbl regclass) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = tbl and d.objsubid > 0
                   and d.refclassid = 'pg_type'::regclass)
$$;

-- relay.is_usual(tbl regclass, args text[]) -> boolean
-- Whether relay.row_event is the quicker trigger: it writes whole rows with a key of one column and types that are all
-- PostgreSQL's own in one statement, and everything else by relay.general_event, slower than relay.image_event.
--   args  the triggers' arguments from the fourth on
create or replace function relay.is_usual(tbl regclass, args text[]) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select cardinality(args) = 3 and args[2] = '{}' and not relay.has_own_types(tbl)
           and not exists (select from pg_partitioned_table p where p.partrelid = tbl)
$$;

-- relay.remember(tbl regclass, name text, always boolean, filter text) -> void
-- Notes what is watched now, so that a trigger that is lost is noticed (relay.watched), and makes the table's reader.
create or replace function relay.remember(tbl regclass, name text, always boolean, filter text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    part regclass;
    before text := (select w.reader from relay.wanted w where w.tbl = remember.tbl);
    new_reader constant text := 'r' || replace(gen_random_uuid()::text, '-', '');
    new_secret constant text := concat(gen_random_uuid(), gen_random_uuid());
begin
    insert into relay.wanted (tbl, name, triggers, always, filter, reader, secret)
        select remember.tbl, remember.name, array_agg(tgname::text order by tgname), remember.always, remember.filter,
            new_reader, new_secret
        from pg_trigger where tgrelid = remember.tbl and tgname like E'!relay\\_%' and tgparentid = 0
        on conflict on constraint wanted_pkey do update set name = excluded.name, triggers = excluded.triggers,
            always = excluded.always, filter = excluded.filter, reader = new_reader, secret = new_secret;
    perform relay.drop_reader(before);
    -- A table that was watched by itself before it became a partition has the root's triggers now.
    for part, before in
        select w.tbl, w.reader from relay.wanted w
        where w.tbl <> remember.tbl and w.tbl in (select relid from pg_partition_tree(remember.tbl))
    loop
        perform relay.drop_triggers(part, array(select tgname from pg_trigger
            where tgrelid = part and tgname like E'!relay\\_%' and tgparentid = 0));  -- that of TRUNCATE
        perform relay.drop_reader(before);
        update relay.wanted w set triggers = '{}' where w.tbl = part;  -- relay.forget
    end loop;
    perform relay.make_reader(tbl, new_reader, new_secret, filter);
end $$;

-- relay.never_ask(tbl regclass, why text) -> void
-- Has the table's reader never be asked, for this reason (relay.unasked): nobody knows its secret. Nothing for null.
create or replace function relay.never_ask(tbl regclass, why text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
begin
    if why is not null then
        update relay.wanted w set secret = '' where w.tbl = never_ask.tbl;
        raise notice 'relay.watch: keys of % that rows exchange are told as deleted and inserted: %', tbl, why
            using hint = 'No matter, if no key is ever given to another row (id = id + 1). Else a condition, or a key, without it.';
    end if;
end $$;

-- relay.drop_reader(reader text) -> void: also if it is gone.
create or replace function relay.drop_reader(reader text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if reader is null then
        return;
    end if;
    -- Cascade: another relay_watcher could have made a view that names them.
    execute pg_catalog.format('drop domain if exists relay_readers.%I cascade', reader);  -- and the function with it
    execute pg_catalog.format('drop function if exists relay_readers.%I(json) cascade', reader);  -- of version 2
exception when insufficient_privilege then
    null;  -- of a former owner
end $$;
