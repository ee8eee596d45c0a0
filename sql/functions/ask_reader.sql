-- relay.ask_reader(reader text, secret text, query text, columns text[], was record) -> boolean
-- What a table's reader says (relay.make_reader). It runs code of the table's owner, as that owner, in somebody else's
-- statement: so in the box of relay.compute, by a role that can do nothing, read-only, rolled back. false if it fails.
--   query    without its end, which is the condition: the reader has that
--   columns  of the key in "was"; the query gets them as a JSON object of texts
create or replace function relay.ask_reader(reader text, secret text, query text, columns text[], was record) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set debug_print_plan = off  -- it would tell the writer the secret
as $$
declare
    taken boolean := false;
    key json;
    asked boolean;
begin
    perform pg_catalog.set_config('transaction_read_only', 'on', true);
    -- By output functions, not casts: those of a user would run.
    execute pg_catalog.format('select pg_catalog.json_build_object(%s)', (
        select pg_catalog.string_agg(pg_catalog.format('%1$L, case when pg_catalog.num_nulls(($1).%1$I) = 0 '
                                                       'then pg_catalog.format(''%%s'', ($1).%1$I) end', c.name), ', ')
        from pg_catalog.unnest(columns) c (name))) into key using was;
    execute pg_catalog.format('select ($1)::relay_readers.%I is not null', reader) into asked
        using pg_catalog.json_build_object('secret', secret, 'query', query, 'key', key);
    taken := true;  -- else the check has failed
    raise exception using errcode = 'RELAY';  -- rolls back
exception when others or assert_failure then
    return taken;  -- the owner has changed, a column of the condition was renamed, the key's dropped
end $$;
