-- relay.key_taken(tbl oid, was record, names text[], numbers smallint[], filter text) -> boolean
-- Whether a watched row has the key of "was" now, after the statement. For row_event, when an update moves a row to
-- another key: after a swap, or id = id + 1, the old key belongs to another row and is no delete.
--   names, numbers  the key's columns, as in tbl
--   filter          the condition of the watch on a row t, or null: a row outside it does not count
-- Reads the table as relay_trigger, to whom relay.watch has granted SELECT, and which may pass by row level security. It
-- runs no code of a user: relay.compare compares, policies are not read, and relay.compute looks at the condition in its
-- box. What the planner itself may run of the table's owner (a function of constants in an index or in statistics) finds
-- itself read-only and rolled back, as in that box. false where it can't be said: the event is a delete then, and the
-- writer's statement goes on.
create or replace function relay.key_taken(tbl oid, was record, names text[], numbers smallint[], filter text)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = off  -- a policy that cannot be passed by is an error, and is not run
set constraint_exclusion = off  -- the planner would run functions in the constraints of children
as $$
declare
    condition text;
    now_key text;
    was_key text;
    taken boolean;
begin
    perform set_config('transaction_read_only', 'on', true);
    -- Equal for the index, and then bit by bit: 1.0 and 1.00 are equal but different keys in JSON.
    select string_agg(relay.compare(atttypid, 3, format('t.%I', attname), format('($1).%I', attname)), ' and '),
           string_agg(format('t.%I', attname), ', '), string_agg(format('($1).%I', attname), ', ')
        into condition, now_key, was_key
        from pg_attribute where attrelid = tbl and attnum = any (numbers) and not attisdropped;
    execute format('select exists (select from %s t where %s and row(%s)::record operator(pg_catalog.*=) row(%s)::record%s)',
                   tbl::regclass, condition, now_key, was_key,
                   case when filter is not null
                       then ' and (select c.passes from relay.compute(null, t.*, $2, $3, $4, ''{}'', $5) c)' end)
        into taken using was, names, numbers, tbl, filter;
    raise exception using errcode = 'RELAY';  -- rolls back
exception when others or assert_failure then
    return coalesce(taken, false);  -- a grant was revoked, a column of the condition renamed, the key's columns dropped
end $$;
