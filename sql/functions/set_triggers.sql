-- relay.set_triggers(tbl, ops, calls, filter, whole, head, tail) -> void
-- Makes the triggers of a table those that are wanted, in one transaction and under one lock: no change slips through.
--   calls       row_event, image_event, boxed_event or bulk_event
--   filter      what relay.qualify makes of the condition, or null
--   whole       whether events have all columns: then an update that changes nothing need not call the function
--   head, tail  the triggers' arguments before and after the operation
create or replace function relay.set_triggers(
    tbl regclass, ops text[], calls text, filter text[], whole boolean, head text[], tail text[]
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    before constant text := filter[1];
    after constant text := filter[2];
    changed constant text := case when whole and calls <> 'bulk_event' then 'old.* operator(pg_catalog.*<>) new.*' end;
    wanted text[] := array(select '!relay_' || o from unnest(ops) o);
    there text[] := array(select tgname from pg_trigger where tgrelid = tbl and tgname like E'!relay\\_%');
    replaceable constant boolean := current_setting('server_version_num')::int >= 140000;
    surplus text[];
    part regclass;
begin
    if filter is not null and 'update' = any (ops) then
        wanted := wanted || '{!relay_update_in,!relay_update_out}'::text[];
    end if;
    surplus := array(select unnest(there) except select unnest(wanted) where replaceable);
    -- DROP TRIGGER needs the stronger lock; so does a change before PostgreSQL 14, which has no OR REPLACE.
    perform relay.lock_table(tbl, case when surplus = '{}' then 'share row exclusive' else 'access exclusive' end);
    perform relay.drop_triggers(tbl, surplus);
    if not replaceable then
        -- Of a partition that was watched by itself: see relay.remember, which is too late for that.
        for part in select relid from pg_partition_tree(tbl) where relid <> tbl loop
            perform relay.drop_triggers(part, array(select tgname from pg_trigger
                where tgrelid = part and tgname like E'!relay\\_%' and tgparentid = 0));
        end loop;
    end if;

    if 'insert' = any (ops) then
        perform relay.set_trigger(tbl, '!relay_insert', 'insert', calls, after, head || 'insert'::text || tail);
    end if;
    if 'update' = any (ops) then
        perform relay.set_trigger(tbl, '!relay_update', 'update', calls,
                                  nullif(concat_ws(' and ', changed, before, after), ''),
                                  head || 'update'::text || tail);
    end if;
    if 'update' = any (ops) and filter is not null then
        perform relay.set_trigger(tbl, '!relay_update_in', 'update', calls, format('not %s and %s', before, after),
                                  head || 'insert'::text || tail);
        perform relay.set_trigger(tbl, '!relay_update_out', 'update', calls, format('%s and not %s', before, after),
                                  head || 'delete'::text || tail);
    end if;
    if 'delete' = any (ops) then
        perform relay.set_trigger(tbl, '!relay_delete', 'delete', calls, before, head || 'delete'::text || tail);
    end if;
    if 'truncate' = any (ops) then
        perform relay.set_trigger(tbl, '!relay_truncate', 'truncate', 'truncate_event', null, head);
    end if;
end $$;
