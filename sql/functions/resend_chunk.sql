-- relay.resend_chunk(tbl regclass, after json, most int, "where" text, queue text = null) -> copied int, last json, skipped json[]
-- Copies existing rows of a watched table into the outbox, as events with op snapshot: a first load, or a repair.
--   after    the key of the last row already looked at, {"id":42}; null = from the beginning. Of an array, and of a type that
--            is not PostgreSQL's own, it has the text: {"id":"{1,2}"}
--   most     how many rows to look at (more, if several share the last key)
--   "where"  a condition on the row's columns that are in events, null = none (an error, if it is none, with or without rows); the names of functions and types in it with their schema
--   queue    the one that they are for; null = all that are bound
--   copied   rows written to the outbox
--   last     pass it as "after" next time; null = the end was reached
--   skipped  keys of rows that others had locked: pass them to relay.resend_row
-- Call it in transactions of their own, READ COMMITTED, and commit each: the rows stay locked (FOR SHARE) until then,
-- so that no change of theirs can come before their snapshot but be older. It never waits for a lock, so it cannot make
-- the application the victim of a deadlock. The topic, the columns and the condition are those of relay.watch.
-- Rows whose key is null are left out. The rows are read with the rights that relay.watch has given relay_trigger, and
-- both conditions are looked at by relay.compute, which has none (read_rows.sql).
--     select * from relay.resend_chunk('public.orders', null, 1000, null);
create or replace function relay.resend_chunk(
    tbl regclass, after json, most int, "where" text, queue text default null,
    out copied int, out last json, out skipped json[]
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    w constant record := relay.watch_of(tbl);
    chosen text[];
    r record;
begin
    perform relay.check_key(tbl, w.names, after);
    if after is null and "where" is not null then
        -- Whether there are rows, or not: what is no condition is an error.
        select * into r from relay.read_rows(tbl, w.names, w.columns, w.options, w.filter, "where", false, null, null);
        if r.problem like '42%' then  -- else it may be of the nulls
            perform relay.add_snapshots(tbl, null, null, null, r.problem, queue);
        end if;
    end if;
    chosen := relay.keys_after(tbl, w.names, w.columns, after, most);
    perform relay.check_watch(tbl, w);
    last := chosen[cardinality(chosen)];
    copied := 0;
    skipped := '{}';
    if chosen is null then
        return;
    end if;
    select * into r from relay.read_rows(tbl, w.names, w.columns, w.options, w.filter, "where", false, after, last);
    copied := relay.add_snapshots(tbl, r.keys, r.images, r.passes, r.problem, queue);
    skipped := array(select c::json from unnest(chosen) c where c <> all (coalesce(r.places, '{}')));
    if cardinality(chosen) < most then
        last := null;
    end if;
end $$;

-- relay.resend_row(tbl regclass, key json, "where" text, queue text = null) -> int
-- The same for the rows with one key; waits for their locks (set lock_timeout). Result: how many were copied; 0 if there
-- is none, or it does not meet the condition. In a transaction of its own: who holds no other lock deadlocks nobody.
--     select relay.resend_row('public.orders', '{"id": 42}', null);
create or replace function relay.resend_row(tbl regclass, key json, "where" text, queue text default null) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    w constant record := relay.watch_of(tbl);
    r record;
begin
    perform relay.check_key(tbl, w.names, key);
    select * into r from relay.read_rows(tbl, w.names, w.columns, w.options, w.filter, "where", true, null, key);
    perform relay.check_watch(tbl, w);
    return relay.add_snapshots(tbl, r.keys, r.images, r.passes, r.problem, queue);
end $$;

-- relay.check_key(tbl regclass, names text[], key json) -> void: an error if it is no key of the table (null: of none).
create or replace function relay.check_key(tbl regclass, names text[], key json) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if key is not null and (json_typeof(key) <> 'object' or exists (select from unnest(names) n where key ->> n is null)) then
        raise exception 'relay: % is not a key of %', key, tbl
            using errcode = 'invalid_parameter_value',
                hint = format('A key of it looks like {%s}.', (select string_agg(to_json(n) || ':...', ',') from unnest(names) n));
    end if;
end $$;

-- relay.check_watch(tbl regclass, w record) -> void
-- An error if relay.watch_of says otherwise by now than it has (w): before the table was locked, which may take long, its
-- owner could rename another column to the key's, or leave out more of it.
create or replace function relay.check_watch(tbl regclass, w record) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if w *<> (select x from relay.watch_of(tbl) x) then
        raise exception 'relay: %, or its watch, was changed meanwhile', tbl using errcode = 'lock_not_available';
    end if;
end $$;

-- relay.watch_of(tbl regclass) -> names text[], columns text[], options json, filter text
-- What resending needs to know of a watch; an error if the table is not watched, or can't be read.
--   names    the key's columns in events
--   columns  the same as they are called now
create or replace function relay.watch_of(
    tbl regclass, out names text[], out columns text[], out options json, out filter text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    schema constant regnamespace := (select relnamespace from pg_class where oid = tbl);
begin
    select min(a.args[1]) as topic, relay.read_numbers(max(a.args[4])) as numbers, relay.read_options(max(a.args[5])) as options,
        max(a.args[6:1605]) as key  -- as relay.watches has it
        into w from (select args from relay.arguments where tgrelid = tbl and length <= 262144 offset 0) a;
    columns := array(select relay.column_now(tbl, n) from unnest(w.numbers) n);
    if w.topic is null then
        raise exception 'relay: % is not watched, so there is no topic to send its rows to', tbl
            using errcode = 'object_not_in_prerequisite_state',
                hint = format('As its owner: select relay.watch(%L);', tbl);
    elsif columns <> w.key then
        raise exception 'relay: the key of % was % when relay.watch was called, and is % now', tbl, w.key, columns
            using errcode = 'object_not_in_prerequisite_state',
                hint = format('As its owner: select relay.watch(%L, ...) once more.', tbl);
    elsif not (has_schema_privilege('relay_trigger', schema, 'USAGE') and has_table_privilege('relay_trigger', tbl, 'SELECT')
               and has_table_privilege('relay_trigger', tbl, 'UPDATE')) then
        raise exception 'relay: relay_trigger may not read and lock the rows of %', tbl
            using errcode = 'insufficient_privilege', detail = 'A row that is locked for copying needs a right to UPDATE.',
                hint = format('As its owner: grant usage on schema %s to relay_trigger; '
                    'grant select, update on %s to relay_trigger;', schema, tbl);
    end if;
    if exists (select from pg_attribute where attrelid = tbl and attnum = any (w.numbers)
               and not relay.is_plain(relay.base_type(atttypid))) then
        raise exception 'relay: the rows of % cannot be resent: its key has a composite type, or a domain inside another',
            tbl using errcode = 'feature_not_supported', detail = 'Reading such a key back runs the checks of domains.';
    end if;
    names := w.key;
    options := w.options;
    filter := w.options ->> 'filter';
end $$;
