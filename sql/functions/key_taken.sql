-- relay.key_taken(tbl oid, was record, numbers smallint[], filter text) -> boolean
-- Whether a watched row has the key of "was" now, after the statement. For row_event, when an update moves a row to
-- another key: after a swap, or id = id + 1, the old key belongs to another row and is no delete.
--   numbers  the key's column numbers in tbl
--   filter   the condition of the watch on a row t, or null: a row outside it does not count
-- Reads the table as relay_trigger, to whom relay.watch has granted SELECT on these columns. false where it may not:
-- the event is a delete then, and the writer's statement goes on.
create or replace function relay.key_taken(tbl oid, was record, numbers smallint[], filter text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set row_security = on  -- off would turn a policy into an error
as $$
declare
    condition text;
    now_key text;
    was_key text;
    taken boolean;
begin
    -- Equal for the index, and then bit by bit: 1.0 and 1.00 are equal but different keys in JSON.
    select string_agg(format('t.%1$I operator(%2$s) ($1).%1$I', attname, relay.operator_of(atttypid, 3)), ' and '),
           string_agg(format('t.%I', attname), ', '), string_agg(format('($1).%I', attname), ', ')
        into condition, now_key, was_key
        from pg_attribute where attrelid = tbl and attnum = any (numbers) and not attisdropped;
    execute format('select exists (select from %s t where %s and row(%s)::record operator(pg_catalog.*=) row(%s)::record and %s)',
                   tbl::regclass, condition, now_key, was_key, coalesce(filter, 'true'))
        into taken using was;
    return taken;
exception when insufficient_privilege or undefined_column or syntax_error then
    return false;  -- a grant was revoked; a column of the filter was renamed; the key's columns were dropped
end $$;
