-- relay.general_event(was, now, fired, relation, depth, args, was_at, now_at, was_ours, now_replaced) -> void
-- What relay.row_event does where it is not the usual case.
--   was, now      the row before and after; null where there is none
--   fired         tg_op: the event that fires the trigger
--   relation      tg_relid
--   depth         pg_trigger_depth()
--   args          tg_argv, from 1
--   was_at, now_at  ctid of both
--   was_ours      whether "was" is a row version of this transaction
--   now_replaced  whether "now" has been replaced or locked already
create or replace function relay.general_event(
    was record, now record, fired text, relation oid, depth int, args text[], was_at tid, now_at tid,
    was_ours boolean, now_replaced boolean
) returns void
language plpgsql  -- with row_event's settings
as $$
declare
    xid constant xid8 := pg_catalog.pg_current_xact_id();  -- before seq: see tables.sql
    at constant timestamptz := pg_catalog.clock_timestamp();
    topic constant text := args[1];
    tbl constant text := args[2];
    op text := args[3];
    numbers constant smallint[] := args[4];
    options constant json := args[5];
    names constant text[] := args[6:];
    old_image json;
    new_image json;
    key text;
    key_was text;
    too_large boolean;
    in_box boolean := greatest(pg_column_size(was), pg_column_size(now)) > 262144 or not relay.may_be_json(relation);
    later bigint;  -- for these four see in_order.sql
    free int;
    from_row text;
    number bigint;
begin
    if not in_box then
        old_image := row_to_json(was);
        new_image := row_to_json(now);
        in_box := strpos(concat(old_image, new_image), E'\\u') > 0;  -- a query in this expression would cost 15 µs
        if greatest(octet_length(old_image::text), octet_length(new_image::text)) > 8192 then
            in_box := in_box or exists (select from pg_attribute where attrelid = relation
                                        and atttypid = any ('{json,json[],jsonb,jsonb[]}'::regtype[]));
        end if;
    end if;
    if in_box then
        select c.old_image, c.new_image, c.old_key, c.new_key, c.too_large
            into old_image, new_image, key_was, key, too_large
            from relay.compute(was, now, names, numbers, relation, options, null, null, relay.told(relation, '($1).%I')) c;
    else
        key_was := old_image -> names[1];
        key := new_image -> names[1];
        if cardinality(names) = 1 and coalesce(key_was, key) is not null and coalesce(key, key_was) is not null then
            key_was := case when key_was is not null then concat('{', to_json(names[1]), ':', key_was, '}') end;
            key := case when key is not null then concat('{', to_json(names[1]), ':', key, '}') end;
        else
            key_was := case when old_image is not null then relay.key_of(old_image, names, numbers, relation) end;
            key := case when new_image is not null then relay.key_of(new_image, names, numbers, relation) end;
        end if;
        if coalesce(options -> 'columns', options -> 'ignore') is not null then
            old_image := relay.pick(old_image, options, relation);
            new_image := relay.pick(new_image, options, relation);
        end if;
    end if;
    if op = 'update' and args[5] <> '{}' and old_image::text = new_image::text and key = key_was then
        return;  -- only ignored columns have changed
    end if;

    if now_replaced then
        select l.seq, l.free into later, free from relay.later(xid, relay.row_version(relation, now_at)) l;
    end if;
    if depth > 1 and was_ours then
        from_row := concat(relay.row_version(relation, was_at), ' ', coalesce(free - 2, relay.left_free(depth)));
        number := case when later is null then relay.take_number(depth) end;
    end if;

    if op = 'delete' then
        if fired = 'UPDATE' and key <> key_was
           and relay.key_taken(relay.root_of(relation), was, numbers) then
            return;  -- this row left the condition, and its key is another row's now
        end if;
        key := key_was;
        new_image := null;
    elsif op = 'insert' then
        old_image := null;
    elsif key <> key_was then
        -- The row moved to another key: a delete and an insert. No delete if the old key is another row's now.
        if not relay.key_taken(relay.root_of(relation), was, numbers) then
            perform relay.write_event(coalesce(later - 2, number), from_row, at, xid, topic, tbl, 'delete', key_was,
                                      case when options ->> 'old' is distinct from 'false' then old_image end, null,
                                      too_large);
            from_row := null;
            number := null;
        end if;
        op := 'insert';
        old_image := null;
    end if;
    if options ->> 'old' = 'false' then
        old_image := null;
    end if;
    number := coalesce(later - 1, number);
    if number is not null then
        perform relay.write_event(number, from_row, at, xid, topic, tbl, op, key, old_image, new_image, too_large);
    else
        insert into relay.outbox (xid, at, topic, tbl, op, key, old_image, new_image, too_large)
            values (xid, at, topic, tbl, op, concat(tbl, ' ', key), old_image, new_image, too_large);
    end if;

    -- NOTIFY only if the listener sleeps (it holds this lock then). One expression: see relay.wake.
    if (case when pg_try_advisory_lock_shared(491327873401)
             then not pg_advisory_unlock_shared(491327873401) else true end) then
        perform relay.notify_listener();
    end if;
end $$;
