-- relay.image_event() trigger: relay.row_event for all that is not usual there (a key of several columns, options), and for
-- partitions; same arguments, same events. PL/pgSQL compiles a trigger function anew for each
-- partition that a session writes to, and any other function for each type of a record that it is given, and keeps the
-- result: row_event takes 180 KiB a partition. This one takes as much as a plain audit trigger: what it does with a row is
-- to make JSON of it, and what is done with JSON is the same function for all.
create or replace function relay.image_event() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
begin
    -- Usual: as in row_event, but for the number of the key's columns and the options. concat: see there.
    -- Invariant: no JSON is made here, as relay_owner, of a type that isn't PostgreSQL's own.
    if (case when (concat(new.xmax) > '0' or pg_trigger_depth() > 1 and age(nullif(concat(old.xmin), '')::xid) <= 0
                   or greatest(pg_column_size(old), pg_column_size(new)) > 262144) is true then false
             when relay.may_be_json(tg_relid)
             then relay.write_images(row_to_json(old), row_to_json(new), tg_op, tg_relid, tg_argv[0:], false)
             when relay.has_strangers(tg_relid) then false
             else relay.write_images(relay.boxed(old), relay.boxed(new), tg_op, tg_relid, tg_argv[0:], true) end)
    then
        return new;  -- "null" would be an expression, 6 KiB
    end if;
    perform relay.general_event(old, new, tg_op, tg_relid, pg_trigger_depth(), tg_argv[0:], nullif(concat(old.ctid), '')::tid,
                                nullif(concat(new.ctid), '')::tid, age(nullif(concat(old.xmin), '')::xid) <= 0,
                                concat(new.xmax) > '0');
    return new;
end $$;

-- relay.boxed_event() trigger: relay.image_event for a table with types of a user's own: it need not look for them, and makes all
-- JSON in the box; where one is a stranger's, relay.general_event does (told.sql). Same arguments, same events.
create or replace function relay.boxed_event() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
begin
    if (case when (concat(new.xmax) > '0' or pg_trigger_depth() > 1 and age(nullif(concat(old.xmin), '')::xid) <= 0
                   or greatest(pg_column_size(old), pg_column_size(new)) > 262144) is true or relay.has_strangers(tg_relid) then false
             else relay.write_images(relay.boxed(old), relay.boxed(new), tg_op, tg_relid, tg_argv[0:], true) end)
    then
        return new;
    end if;
    perform relay.general_event(old, new, tg_op, tg_relid, pg_trigger_depth(), tg_argv[0:], nullif(concat(old.ctid), '')::tid,
                                nullif(concat(new.ctid), '')::tid, age(nullif(concat(old.xmin), '')::xid) <= 0,
                                concat(new.xmax) > '0');
    return new;
end $$;

-- relay.may_be_json(relation oid) -> boolean
-- Whether no type but PostgreSQL's own is in a row of this table: see row_event.
create or replace function relay.may_be_json(relation oid) returns boolean
language plpgsql  -- with the trigger's settings
as $$
begin
    return current_setting('transaction_isolation') like 'read %' and not exists (
        select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = relation
        and d.objsubid > 0 and d.refclassid = 'pg_type'::regclass);
end $$;

-- relay.write_images(was json, now json, fired text, relation oid, args text[], in_box boolean) -> boolean
-- Writes the event of a row of which nothing but its images is needed. false: it was not written, since an image could
-- not be made, since reading it again could fail (as in general_event), or since the key has changed.
--   was, now  the row before and after, whole; null where there is none
--   fired     tg_op: the event that fires the trigger
--   args      tg_argv, from 1
--   in_box    made by relay.boxed
create or replace function relay.write_images(
    was json, now json, fired text, relation oid, args text[], in_box boolean
) returns boolean
language plpgsql  -- with the trigger's settings
as $$
declare
    tbl constant text := args[2];
    op constant text := args[3];
    key text;
begin
    if strpos(concat(was, now), E'\\u') > 0 or fired <> 'INSERT' and was is null or fired <> 'DELETE' and now is null then
        return false;
    elsif greatest(octet_length(was::text), octet_length(now::text)) > 8192 then
        if in_box or exists (select from pg_attribute where attrelid = relation
                   and atttypid = any ('{json,json[],jsonb,jsonb[]}'::regtype[])) then
            return false;
        end if;
    end if;
    -- Few expressions: each is prepared anew in each transaction.
    if cardinality(args) = 6 and (coalesce(now, was) -> args[6]) is not null then
        if (was -> args[6])::text <> (now -> args[6])::text then
            return false;
        end if;
        key := concat('{', to_json(args[6]), ':', coalesce(now, was) -> args[6], '}');
    else
        key := relay.key_of(coalesce(now, was), args[6:], args[4]::smallint[], relation);
        if was is not null and now is not null and key <> relay.key_of(was, args[6:], args[4]::smallint[], relation) then
            return false;
        end if;
    end if;
    if args[5] <> '{}' then
        if coalesce(args[5]::json -> 'columns', args[5]::json -> 'ignore') is not null then
            was := relay.pick(was, args[5]::json, relation);
            now := relay.pick(now, args[5]::json, relation);
        end if;
        if op = 'update' and was::text = now::text then
            return true;  -- only ignored columns have changed
        end if;
        -- The row left the condition of the watch, or entered it; or no image before is wanted.
        now := case when op <> 'delete' then now end;
        was := case when op <> 'insert' and args[5]::json ->> 'old' is distinct from 'false' then was end;
    end if;
    insert into relay.outbox (topic, tbl, op, key, old_image, new_image)
        values (args[1], tbl, op, concat(tbl, ' ', key), was, now);
    -- NOTIFY only if the listener sleeps (it holds this lock then). One expression: see relay.wake.
    if (case when pg_try_advisory_lock_shared(491327873401)
             then not pg_advisory_unlock_shared(491327873401) else true end) then
        perform relay.notify_listener();
    end if;
    return true;
end $$;
