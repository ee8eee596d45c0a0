-- relay.row_event() trigger: writes the event of one row into the outbox. Made by relay.watch, where relay.is_usual says so
-- (else relay.image_event or relay.boxed_event, of the same arguments); by hand:
--
--     create trigger "!relay_insert" after insert on public.orders for each row execute function
--         relay.row_event('public.orders', 'public.orders', 'insert', '{1}', '{}', 'id');
--     create trigger "!relay_update" after update on public.orders for each row when (old.* *<> new.*)
--         execute function relay.row_event('public.orders', 'public.orders', 'update', '{1}', '{}', 'id');
--     create trigger "!relay_delete" after delete on public.orders for each row execute function
--         relay.row_event('public.orders', 'public.orders', 'delete', '{1}', '{}', 'id');
--
-- Arguments: topic; the table's name in events; insert, update or delete; numbers of the key's columns; options
-- ({"old": false}, {"columns": [...]}, see relay.pick); names of the key's columns. Where the operation is not that of the
-- event that fires the trigger (an update told as a delete), the options are never '{}' but '{"filter": "true"}'.
-- The names begin with "!" because triggers fire in order of their names: after a trigger that updates the same row
-- again, the events would be in the wrong order.
--
-- It runs inside every writer's statement, as relay_owner, so it runs no code that a user has made: relay.compute makes
-- images and keys, in its box, where the type of a column could bring such code along (a cast to json), and where
-- reading JSON again could fail. PL/pgSQL prepares each expression anew in each transaction, which takes longer than to
-- compute it: so the usual case is one condition and one statement. Columns are never named in
-- the code (a RENAME COLUMN must not abort the writer), and there is no exception block (a subtransaction a row).
-- What look like system columns are read by concat alone, which takes any type and casts none: a view may have columns of
-- these names, and their types casts to xid and the like, which would run here.
-- What is not usual goes to relay.general_event: PL/pgSQL compiles a trigger function anew for each trigger, that is for
-- each partition in each session, and keeps the result, so this one is as small as it can be.
-- The settings below are those of the writer's session that change how values look as text. How texts in the code are read is
-- another (standard_conforming_strings): one with a backslash is E'...', which is read alike.
--
-- What makes "no type but PostgreSQL's own" certain: a table depends on each other type of its columns, in pg_depend; the
-- writer's lock keeps its columns as they are; and in READ COMMITTED the query sees what is committed now. In the other
-- isolation levels it sees what was committed when the transaction began, so everything goes through the box there.
create or replace function relay.row_event() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
begin
    -- Usual: a key of one column, no options, a row version that nobody has replaced or locked meanwhile, not a nested
    -- trigger's change of its own transaction's row (in_order.sql), images that cannot become too large: those of rows
    -- of more than 256 KiB as stored (decompressed at most 255 times, escaped six times as long).
    if (tg_nargs > 6 or tg_argv[4] <> '{}' or concat(new.xmax) > '0' or pg_trigger_depth() > 1 and age(nullif(concat(old.xmin), '')::xid) <= 0
        or greatest(pg_column_size(old), pg_column_size(new)) > 262144
        or current_setting('transaction_isolation') not like 'read %') is not true then
        if tg_argv[3] = '{1}' then
            -- The key is the first column, so it is what stands before the first comma: reading JSON to find it costs as much
            -- as to make it. No row if that is not a whole value without escapes, if the column was renamed, or if the key has
            -- changed.
            insert into relay.outbox (topic, tbl, op, key, old_image, new_image)
                select tg_argv[0], k.tbl, tg_argv[2], concat(k.tbl, ' ', k.key, '}'), k.was, k.now
                from (select e.*, split_part(coalesce(e.now, e.was), ',', 1) as key
                      from (select tg_argv[1] as tbl, row_to_json(old)::text as was, row_to_json(new)::text as now
                            -- Invariant: no JSON is made here, as relay_owner, of a type that isn't PostgreSQL's own.
                            where not exists (
                                select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = tg_relid
                                and d.objsubid > 0 and d.refclassid = 'pg_type'::regclass)
                            offset 0) e  -- computed once, not wherever it is used
                      offset 0) k
                where starts_with(k.key, concat('{"', tg_argv[5], '":'))
                    and starts_with(coalesce(k.was, k.now), k.key || ',')
                    and k.key ~ E'^\\{"[^"\\\\]+":("[^"\\\\]*"|[^"\\\\{}[]+)$';
        else
            insert into relay.outbox (topic, tbl, op, key, old_image, new_image)
                select tg_argv[0], tg_argv[1], tg_argv[2], concat(tg_argv[1], ' {', to_json(tg_argv[5]), ':', e.key, '}'), e.was, e.now
                -- No row if the key has changed, or if its column was renamed: it is null then. Nor if a json column has an
                -- escape: some of those ("\u0000") PostgreSQL writes, but cannot read again. Nor if it could be nested so
                -- deeply that to read it takes more stack than is left.
                from (select i.*, case when greatest(pg_column_size(i.was), pg_column_size(i.now)) <= 8192
                                            and strpos(concat(i.was, i.now), E'\\u') = 0
                                       then coalesce(i.now, i.was) -> tg_argv[5] end as key
                      from (select row_to_json(old) as was, row_to_json(new) as now
                            -- The same invariant.
                            where not exists (
                                select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = tg_relid
                                and d.objsubid > 0 and d.refclassid = 'pg_type'::regclass)
                            offset 0) i
                      offset 0) e
                where e.key is not null and (e.was is null or e.now is null or (e.was -> tg_argv[5])::text = e.key::text);
        end if;
        if found then
            -- NOTIFY only if the listener sleeps (it holds this lock then). One expression: see relay.wake.
            if (case when pg_try_advisory_lock_shared(491327873401)
                     then not pg_advisory_unlock_shared(491327873401) else true end) then
                perform relay.notify_listener();
            end if;
            return null;
        end if;
    end if;
    perform relay.general_event(old, new, tg_op, tg_relid, pg_trigger_depth(), tg_argv[0:], nullif(concat(old.ctid), '')::tid,
                                nullif(concat(new.ctid), '')::tid, age(nullif(concat(old.xmin), '')::xid) <= 0,
                                concat(new.xmax) > '0');
    return null;
end $$;
