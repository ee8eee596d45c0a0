-- relay.row_event() trigger: writes the event of one row into the outbox. Made by relay.watch; by hand:
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
-- It runs inside every writer's statement. PL/pgSQL prepares each expression anew in each transaction, which takes longer
-- than to compute it: so the usual case is one condition and one statement, the others follow below. Columns are never
-- named in the code (a RENAME COLUMN must not abort the writer), and there is no exception block (a subtransaction a row).
-- The settings below are those of the writer's session that change how values look as text.
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
    -- trigger's change of its own transaction's row (in_order.sql), images that cannot become too large (big_row.sql).
    if (tg_nargs > 6 or tg_argv[4] <> '{}' or new.xmax <> '0' or pg_trigger_depth() > 1 and age(old.xmin) <= 0
        or greatest(pg_column_size(old), pg_column_size(new)) > 262144) is not true then
        -- xid before seq: see tables.sql. offset 0: computed once, not wherever it is used.
        insert into relay.outbox (xid, id, at, topic, tbl, op, key, body)
            select k.xid, k.id, k.at, tg_argv[0], k.tbl, k.op, concat(k.tbl, ' ', k.key),
                relay.event_body(k.id, k.at, k.xid, k.tbl, k.op, k.key, k.was::text, k.now::text, false)
            from (select e.*, concat('{', to_json(e.name), ':', coalesce(e.now, e.was) -> e.name, '}') as key
                  from (select pg_current_xact_id() as xid, gen_random_uuid() as id, clock_timestamp() as at,
                            tg_argv[1] as tbl, tg_argv[2] as op, tg_argv[5] as name,
                            row_to_json(old) as was, row_to_json(new) as now offset 0) e
                  -- No row if the key has changed, or if its column was renamed: both are null then.
                  where (coalesce(e.was, e.now) -> e.name)::text = (coalesce(e.now, e.was) -> e.name)::text
                  offset 0) k;
        if found then
            -- NOTIFY only if the listener sleeps (it holds this lock then). One expression: see relay.wake.
            if (case when pg_try_advisory_lock_shared(491327873401)
                     then not pg_advisory_unlock_shared(491327873401) else true end) then
                perform pg_notify('relay', '');
            end if;
            return null;
        end if;
    end if;

    declare
        xid constant xid8 := pg_current_xact_id();  -- before seq: see tables.sql
        event uuid := gen_random_uuid();
        at constant timestamptz := clock_timestamp();
        op text := tg_argv[2];
        was json;  -- the images before and after
        now json;
        key text;
        key_was text;
        too_large boolean := false;
        later bigint;  -- for these two see in_order.sql
        from_tid tid;
    begin
        if op <> 'delete' then
            now := case when pg_column_size(new) between 0 and 262144 then row_to_json(new) else relay.big_row(new) end;
            key := now -> tg_argv[5];
            key := case when key is not null and tg_nargs = 6 then concat('{', to_json(tg_argv[5]), ':', key, '}')
                        else relay.key_of(now, new, tg_argv[5:], tg_argv[3]::smallint[], tg_relid) end;
            too_large := now is null;
        end if;
        if op <> 'insert' then
            was := case when pg_column_size(old) between 0 and 262144 then row_to_json(old) else relay.big_row(old) end;
            key_was := was -> tg_argv[5];
            key_was := case when key_was is not null and tg_nargs = 6
                            then concat('{', to_json(tg_argv[5]), ':', key_was, '}')
                            else relay.key_of(was, old, tg_argv[5:], tg_argv[3]::smallint[], tg_relid) end;
            too_large := too_large or was is null;
        end if;

        if tg_argv[4] <> '{}' then
            was := relay.pick(was, tg_argv[4]::json, tg_relid);
            now := relay.pick(now, tg_argv[4]::json, tg_relid);
            if was::text = now::text and key = key_was then
                return null;  -- only ignored columns have changed
            elsif tg_argv[4]::json ->> 'old' = 'false' then
                was := null;
            end if;
        end if;
        if too_large then
            was := null;
            now := null;
        end if;

        if tg_op <> 'DELETE' and new.xmax <> '0' then
            later := relay.later_event(xid, tg_argv[1], new.ctid);
        end if;
        if pg_trigger_depth() > 1 and tg_op <> 'INSERT' and age(old.xmin) <= 0 then
            from_tid := old.ctid;
            perform relay.reserve(pg_trigger_depth());
        end if;

        if op = 'delete' then
            key := key_was;
            if tg_op = 'UPDATE'
               and relay.key_of(null, new, tg_argv[5:], tg_argv[3]::smallint[], tg_relid) <> key_was
               and relay.key_taken(relay.root_of(tg_relid), old, tg_argv[3]::smallint[],
                                   tg_argv[4]::json ->> 'filter') then
                return null;  -- this row left the condition, and its key is another row's now
            end if;
        elsif key <> key_was then
            -- The row moved to another key: a delete and an insert. No delete if the old key is another row's now.
            if not relay.key_taken(relay.root_of(tg_relid), old, tg_argv[3]::smallint[],
                                   tg_argv[4]::json ->> 'filter') then
                perform relay.write_event(later - 2, from_tid, event, at, xid, tg_argv[0], tg_argv[1], 'delete',
                                          key_was, was, null, too_large);
                event := gen_random_uuid();
                from_tid := null;
            end if;
            op := 'insert';
            was := null;
        end if;
        if later is not null then
            perform relay.write_event(later - 1, from_tid, event, at, xid, tg_argv[0], tg_argv[1], op, key, was, now,
                                      too_large);
            return null;
        end if;
        insert into relay.outbox (xid, id, at, topic, tbl, op, key, body, from_tid)
            values (xid, event, at, tg_argv[0], tg_argv[1], op, concat(tg_argv[1], ' ', key),
                    relay.event_body(event, at, xid, tg_argv[1], op, key, was::text, now::text, too_large), from_tid);

        -- NOTIFY only if the listener sleeps (it holds this lock then). One expression: see relay.wake.
        if (case when pg_try_advisory_lock_shared(491327873401)
                 then not pg_advisory_unlock_shared(491327873401) else true end) then
            perform pg_notify('relay', '');
        end if;
        return null;
    end;
end $$;
